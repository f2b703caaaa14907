//! The memory of large blocks goes back to the system when they are freed.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// glibc's variable for the size from which a block is mapped by itself, and given back by itself.
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";

/// Blocks of this size or larger are mapped; in bytes. The buffers of a full batch, and those that
/// librdkafka decompresses a producer's large batch into, are larger, and would fragment the heaps.
/// Smaller blocks are cheaper on the heap: the kernel clears the pages of each mapped block. 768
/// KiB rather than 256: 17.3 µs of CPU a record in a full topic rather than 19.9, 59 MiB rather
/// than 56, and 40 MiB rather than 27 once the topic is drained; from 2 MiB on memory grows, and
/// nothing becomes cheaper.
const MAPPED_BYTES_MIN: &str = "786432";

/// Restarts this program with the setting, unless it has it: glibc reads it only when a process
/// starts. The process keeps its id. Where that fails, the program continues without.
///
/// By default the first large block that is freed raises the size from which blocks are mapped, up
/// to 32 MiB. From then on records of 16 MB lie on the heaps of whichever threads handled them, and
/// what is freed between them stays: memory came to 1.4 times the budget that all buffers together
/// kept.
pub fn map_large_blocks() {
    if env::var_os(THRESHOLD).is_some() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        // Returns only an error.
        let _ = Command::new(program)
            .args(env::args_os().skip(1))
            .env(THRESHOLD, MAPPED_BYTES_MIN)
            .exec();
    }
}
