//! How the process's memory allocator is set up.

/// Lets glibc keep no more heaps than there are cores.
///
/// It keeps up to eight a core otherwise, for every thread that reads files, and each heap holds on
/// to what its busiest moment took: beside a writer, a follower and a maintainer that use 7 MiB
/// held 132 MiB after two minutes, and more with each; with this it is 78 MiB and stays there
/// (`benches/README.md`). To be called before the first thread starts. Other allocators, and what
/// `MALLOC_ARENA_MAX` says, are left as they are.
pub fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let arenas = i32::try_from(cores.max(2)).unwrap_or(i32::MAX);
        // SAFETY: mallopt only stores the number, and no other thread allocates yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}
