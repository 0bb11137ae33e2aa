//! The binary as a person or a script runs it: what it prints, where, and how it exits.
#![cfg(all(feature = "cli", feature = "sqlite"))]

mod compact;
mod diff;
mod faults;
mod follow;
mod formats;
#[cfg(unix)]
mod full_disk;
mod health;
mod housekeeping;
mod maintain;
mod others;
// `libc` is a dependency there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod pty;
mod support;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod terminal;
mod verify;
mod words;
