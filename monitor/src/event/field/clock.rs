//! Times of day as text, UTC: what `evt.time` and its kin say.

use jiff::Timestamp;

/// `HH:MM:SS.nnnnnnnnn`, or without the fraction, of nanoseconds since 1970.
pub(super) fn time(unix_ns: u64, fraction: bool) -> String {
    format(unix_ns, if fraction { "%H:%M:%S.%9f" } else { "%H:%M:%S" })
}

/// `YYYY-MM-DD HH:MM:SS.nnnnnnnnn`, or without the fraction.
pub(super) fn datetime(unix_ns: u64, fraction: bool) -> String {
    format(unix_ns, if fraction { "%Y-%m-%d %H:%M:%S.%9f" } else { "%Y-%m-%d %H:%M:%S" })
}

/// `YYYY-MM-DDTHH:MM:SS.nnnnnnnnn+0000`
pub(super) fn iso8601(unix_ns: u64) -> String {
    format(unix_ns, "%Y-%m-%dT%H:%M:%S.%9f+0000")
}

fn format(unix_ns: u64, format: &str) -> String {
    Timestamp::from_nanosecond(unix_ns.into()).unwrap_or(Timestamp::MAX).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_795_408_269_588_000_001, true), "04:31:09.588000001");
        assert_eq!(datetime(1_795_408_269_588_000_001, false), "2026-11-23 04:31:09");
        assert_eq!(iso8601(0), "1970-01-01T00:00:00.000000000+0000");
    }
}
