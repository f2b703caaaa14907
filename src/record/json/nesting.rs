//! Which containers of a JSON text are open.

use std::mem;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Container {
    Object,
    Array,
}

/// Which containers are open: one bit per level, the innermost lowest; 64 levels before anything is
/// allocated.
#[derive(Default)]
pub(super) struct Nesting {
    depth: usize,
    arrays: u64,
    outer: Vec<u64>,
}

impl Nesting {
    #[inline(always)]
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    #[inline(always)]
    pub(super) fn push(&mut self, container: Container) {
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            self.outer = pushed(mem::take(&mut self.outer), self.arrays);
        }
        self.arrays = self.arrays << 1 | u64::from(container == Container::Array);
        self.depth += 1;
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) {
        self.depth -= 1;
        self.arrays >>= 1;
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            (self.outer, self.arrays) = popped(mem::take(&mut self.outer));
        }
    }

    #[inline(always)]
    pub(super) fn innermost(&self) -> Option<Container> {
        let container = if self.arrays & 1 == 1 {
            Container::Array
        } else {
            Container::Object
        };
        (self.depth > 0).then_some(container)
    }
}

// Both take the words by value: a reference to a field would keep all of them in memory.

#[cold]
fn pushed(mut words: Vec<u64>, word: u64) -> Vec<u64> {
    words.push(word);
    words
}

#[cold]
fn popped(mut words: Vec<u64>) -> (Vec<u64>, u64) {
    let word = words.pop().expect("each 64th level left a word");
    (words, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_remembers_every_level() {
        let kind = |level: usize| {
            if level.is_multiple_of(3) {
                Container::Array
            } else {
                Container::Object
            }
        };
        let mut nesting = Nesting::default();
        assert!(nesting.innermost().is_none());
        (0..300).for_each(|level| nesting.push(kind(level)));
        for level in (0..300).rev() {
            assert_eq!(nesting.depth, level + 1);
            assert!(nesting.innermost() == Some(kind(level)), "level {level}");
            nesting.pop();
        }
        assert!(nesting.innermost().is_none());
    }
}
