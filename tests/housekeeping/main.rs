//! Expiry and removal of orphans: nothing that is needed goes, everything else does.

mod deletes;
mod expire;
mod history;
#[path = "../kit/mod.rs"]
mod kit;
mod orphans;
mod yard;
