//! Medians and percentiles of what was measured, by sorting. No fits, no outlier removal.

/// Values in order. Never empty.
#[derive(Debug)]
pub struct Sorted<T>(Vec<T>);

impl<T: Copy + Ord> Sorted<T> {
    /// Puts `values` in order. None if there are none.
    pub fn new(mut values: Vec<T>) -> Option<Sorted<T>> {
        values.sort_unstable();
        (!values.is_empty()).then_some(Sorted(values))
    }

    /// The value in the middle; of two in the middle the smaller, so that it is always one that was seen.
    pub fn median(&self) -> T {
        self.percentile(50)
    }

    /// The smallest value that at least `percent` of a hundred values do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> T {
        let rank = (self.0.len() * percent.min(100)).div_ceil(100);
        self.0[rank.saturating_sub(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(values: impl IntoIterator<Item = u32>) -> Sorted<u32> {
        Sorted::new(values.into_iter().collect()).unwrap()
    }

    #[test]
    fn nothing_has_no_median() {
        assert!(Sorted::<u32>::new(Vec::new()).is_none());
    }

    #[test]
    fn a_single_value_is_all_of_them() {
        let one = sorted([7]);
        assert_eq!([one.percentile(0), one.median(), one.percentile(95), one.percentile(100)], [7; 4]);
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(sorted([9, 1, 5]).median(), 5);
        assert_eq!(sorted([4, 1, 3, 2]).median(), 2);
        assert_eq!(sorted((1..=200).rev()).median(), 100);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = sorted(1..=100);
        assert_eq!([hundred.percentile(1), hundred.percentile(95), hundred.percentile(100)], [1, 95, 100]);
        assert_eq!(sorted(1..=10).percentile(95), 10);
        assert_eq!(sorted(1..=200).percentile(95), 190);
    }

    #[test]
    fn one_straggler_in_twenty_does_not_move_the_95th() {
        let values = std::iter::repeat_n(10, 19).chain([1000]);
        assert_eq!(sorted(values).percentile(95), 10);
    }
}
