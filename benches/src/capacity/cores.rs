//! Cores that do one piece of work after the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Some cores with one queue: each piece of work takes the core that is free first, and keeps it to
/// its end.
#[derive(Debug)]
pub struct Cores {
    free_at_ns: BinaryHeap<Reverse<u64>>,
    busy_ns: u64,
}

impl Cores {
    /// So many cores, all of them free; at least one.
    pub fn new(count: usize) -> Cores {
        Cores {
            free_at_ns: vec![Reverse(0); count.max(1)].into(),
            busy_ns: 0,
        }
    }

    /// Adds work of `cost_ns` at `now_ns`, which is never before that of an earlier call. Gives when
    /// it will be done, in nanoseconds.
    pub fn run(&mut self, now_ns: u64, cost_ns: u64) -> u64 {
        let Reverse(free_ns) = self.free_at_ns.pop().expect("there is at least one core");
        let end_ns = now_ns.max(free_ns) + cost_ns;
        self.free_at_ns.push(Reverse(end_ns));
        self.busy_ns += cost_ns;
        end_ns
    }

    /// The time that all cores together have worked, or will have, in nanoseconds.
    pub fn busy_ns(&self) -> u64 {
        self.busy_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_the_first_core_that_is_free() {
        let mut cores = Cores::new(2);
        assert_eq!(cores.run(0, 10), 10);
        assert_eq!(cores.run(0, 4), 4);
        assert_eq!(cores.run(1, 3), 7, "behind the shorter one");
        assert_eq!(cores.run(20, 1), 21, "both are free again");
        assert_eq!(cores.busy_ns(), 18);
    }
}
