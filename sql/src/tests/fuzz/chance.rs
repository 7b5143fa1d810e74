//! Chance from a seed, and nothing else: the same seed gives the same tables, rows and queries.

use otus_engine::store::fault::Dice;

/// A seeded source of choices.
#[derive(Debug, Clone)]
pub(super) struct Chance(Dice);

impl Chance {
    /// From a seed and the name of what it is for, so that one part drawing more does not move another.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        let mut dice = Dice::new(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.roll();
        Self(dice)
    }

    /// Less than `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.0.below(n as u64)).unwrap()
    }

    /// In `[from, to)`.
    pub(super) fn between(&mut self, from: i64, to: i64) -> i64 {
        let width = u64::try_from(to - from).unwrap();
        from + i64::try_from(self.0.below(width)).unwrap()
    }

    /// True `n` times in a hundred.
    pub(super) fn percent(&mut self, n: u64) -> bool {
        self.0.percent(n)
    }

    /// One of a list.
    pub(super) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One of some words.
    pub(super) fn word(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    /// The index of a weight, as often as it weighs.
    pub(super) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (i, weight) in weights.iter().enumerate() {
            if left < *weight {
                return i;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// Some of a list, in its order, each with `n` percent.
    pub(super) fn some<T: Clone>(&mut self, list: &[T], n: u64) -> Vec<T> {
        list.iter().filter(|_| self.0.percent(n)).cloned().collect()
    }

    /// Another order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}
