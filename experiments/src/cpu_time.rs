//! The clock that results are measured with: CPU time of the whole process.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU time, user and system, that this process has used.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
