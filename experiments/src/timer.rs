//! An observer that takes the time of each phase.

use std::time::{Duration, Instant};

use tospace::heap::{Observer, Phase};

use crate::cpu_time;

/// Splits a run's CPU time into the program's and the collector's.
///
/// Reading the CPU clock is a system call that takes longer than sweeping a block. Lazy sweeping is
/// therefore timed by the monotonic clock, which is not, and what that says is scaled by the part of
/// the run's wall time that the process really ran.
#[derive(Debug, Default)]
pub struct PhaseTimer {
    phase: Option<Since>,
    in_collections: u64,
    longest: u64,
    lazy_sweeps: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    /// A collection has been going on since this CPU time.
    Collecting(u64),
    /// A block has been swept since then.
    Sweeping(Instant),
}

/// Nanoseconds of CPU time, but for the first.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub wall_ns: u64,
    pub total_ns: u64,
    pub gc_ns: u64,
    pub max_pause_ns: u64,
}

impl Observer for PhaseTimer {
    fn enter(&mut self, phase: Phase) {
        match (self.phase, phase) {
            (None, Phase::Sweep) => self.phase = Some(Since::Sweeping(Instant::now())),
            (None, Phase::Roots) => self.phase = Some(Since::Collecting(cpu_time::now())),
            (Some(Since::Sweeping(start)), _) => {
                self.lazy_sweeps += start.elapsed();
                self.phase = None;
            }
            (Some(Since::Collecting(start)), Phase::Mutator) => {
                let pause = cpu_time::now() - start;
                self.in_collections += pause;
                self.longest = self.longest.max(pause);
                self.phase = None;
            }
            (Some(Since::Collecting(_)), _) | (None, Phase::Mutator | Phase::Trace) => {}
        }
    }
}

impl PhaseTimer {
    /// Times `run`, whose collections `timer` gives access to.
    pub fn time<S, T>(
        subject: &mut S,
        timer: impl Fn(&mut S) -> &mut Self,
        run: impl FnOnce(&mut S) -> T,
    ) -> (T, Times) {
        *timer(subject) = Self::default();
        let (wall, cpu) = (Instant::now(), cpu_time::now());
        let outcome = run(subject);
        let (total_ns, wall) = (cpu_time::now() - cpu, wall.elapsed());

        let timer = timer(subject);
        let running = total_ns as f64 / wall.as_nanos() as f64;
        let sweeping = (timer.lazy_sweeps.as_nanos() as f64 * running) as u64;
        let times = Times {
            wall_ns: wall.as_nanos() as u64,
            total_ns,
            gc_ns: (timer.in_collections + sweeping).min(total_ns),
            max_pause_ns: timer.longest,
        };
        (outcome, times)
    }
}
