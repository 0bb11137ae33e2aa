//! How the process's memory allocator is set up, for commands that run for days.

use std::time::Duration;

/// How often free memory is given back.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(15);

/// Lets glibc keep no more heaps than there are cores.
///
/// It keeps up to eight a core otherwise, for every thread that reads files, and each heap holds on
/// to what its busiest moment took: beside a writer, a follower and a maintainer that use 7 MiB
/// held 132 MiB after two minutes, and 78 MiB with this. To be called before the first thread
/// starts. Other allocators, and what `MALLOC_ARENA_MAX` says, are left as they are.
pub fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let arenas = i32::try_from(cores.max(2)).unwrap_or(i32::MAX);
        // SAFETY: mallopt only stores the number, and no other thread allocates yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}

/// Gives memory that is free, but lies between what is not, back to the system, again and again;
/// never returns. glibc does so at the ends of its heaps only.
pub async fn give_memory_back() {
    loop {
        tokio::time::sleep(GIVE_BACK_EVERY).await;
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the heaps' locks itself and touches free memory only.
    unsafe {
        libc::malloc_trim(0)
    };
}
