//! Medians and quartiles of a few measurements.

/// The middle of some measurements, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    /// A quarter of the measurements is below.
    pub(super) low: f64,
    /// A quarter of the measurements is above.
    pub(super) high: f64,
}

impl Spread {
    /// Of at least one measurement; not a number where there is none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |numerator: usize| quantile(&values, numerator, 4);
        Self { median: at(2), low: at(1), high: at(3) }
    }
}

/// Interpolated between the two values around it.
fn quantile(sorted: &[f64], numerator: usize, denominator: usize) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let (position, rest) = (last * numerator / denominator, last * numerator % denominator);
    let value = |index: usize| sorted.get(index.min(last)).copied().unwrap_or(f64::NAN);
    let weight = number(rest as u64) / number(denominator as u64);
    value(position) + weight * (value(position + 1) - value(position))
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "measurements have fewer than 53 significant bits")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_quartiles_are_between_the_values() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0, 5.0]), Spread { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(Spread::of([1.0, 2.0]), Spread { median: 1.5, low: 1.25, high: 1.75 });
        assert_eq!(Spread::of([7.0]), Spread { median: 7.0, low: 7.0, high: 7.0 });
        assert!(Spread::of([]).median.is_nan());
    }
}
