//! Whether a series rises: the slope that half of all pairs of samples stay under. Pure.

/// A series of samples: hours since the start, and the value.
pub type Series = [(f64, f64)];

/// What a series comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Half of the samples are below.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// Units an hour, by Theil and Sen: outliers, such as the seconds of a fault, do not turn it.
    pub slope_per_hour: f64,
    /// How much that makes over the time of the series.
    pub rise: f64,
}

/// The trend of at least two samples.
pub fn trend(series: &Series) -> Option<Trend> {
    let (first, last) = (series.first()?, series.last()?);
    let slopes = series.iter().enumerate().flat_map(|(index, (from, low))| {
        let later = series[index + 1..].iter();
        later
            .filter(move |(to, _)| to > from)
            .map(move |(to, high)| (high - low) / (to - from))
    });
    let slope_per_hour = median(slopes.collect())?;
    Some(Trend {
        median: median(series.iter().map(|(_, value)| *value).collect())?,
        max: series
            .iter()
            .map(|(_, value)| *value)
            .fold(f64::MIN, f64::max),
        slope_per_hour,
        rise: slope_per_hour * (last.0 - first.0),
    })
}

/// Whether it rises by more than `absolute` units and more than a tenth of its median.
pub fn leaks(trend: &Trend, absolute: f64) -> bool {
    trend.rise > absolute.max(trend.median / 10.0)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample a minute for an hour.
    fn hour(value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..60)
            .map(|minute| (f64::from(minute) / 60.0, value(f64::from(minute))))
            .collect()
    }

    #[test]
    fn a_leak_is_found_under_noise_and_faults() {
        let noise = |minute: f64| (minute * 7.0) % 5.0;
        let flat = hour(|minute| 100.0 + noise(minute));
        assert!(!leaks(&trend(&flat).unwrap(), 4.0));
        let leaking = hour(|minute| 100.0 + noise(minute) + minute / 2.0);
        let found = trend(&leaking).unwrap();
        assert!(leaks(&found, 4.0));
        assert!((found.slope_per_hour - 30.0).abs() < 2.0, "{found:?}");
        let with_spikes = hour(|minute| {
            100.0
                + if minute % 10.0 == 9.0 {
                    900.0
                } else {
                    noise(minute)
                }
        });
        assert!(!leaks(&trend(&with_spikes).unwrap(), 4.0));
        let leaking_with_spikes =
            hour(|minute| 100.0 + minute / 2.0 + if minute % 10.0 == 9.0 { 900.0 } else { 0.0 });
        assert!(leaks(&trend(&leaking_with_spikes).unwrap(), 4.0));
    }

    #[test]
    fn what_falls_or_rises_little_does_not_leak() {
        assert!(!leaks(&trend(&hour(|minute| 100.0 - minute)).unwrap(), 1.0));
        assert!(
            !leaks(&trend(&hour(|minute| 1_000.0 + minute)).unwrap(), 1.0),
            "6 % of what it is"
        );
        assert!(
            !leaks(&trend(&hour(|minute| minute / 30.0)).unwrap(), 4.0),
            "2 of anything"
        );
        assert!(trend(&[]).is_none() && trend(&[(0.0, 1.0)]).is_none());
    }
}
