//! What an answer means for what was sent: the table of OTLP, but nothing is given up because a sink is misconfigured.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::dial::random;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same again, after this time where the sink names one.
    Retry(Option<Duration>),
    /// Less at a time: it was too much.
    Smaller,
    /// Something in it is wrong: halves, to find out what.
    Divide,
    /// The sink does not want us: the same again, seldom.
    Refused,
}

/// What a status says.
pub fn verdict(status: &Status) -> Verdict {
    // Longer than this a sink cannot mean; it would be an agent that has stopped.
    const MAX_DELAY: Duration = Duration::from_mins(5);
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).map(|delay| delay.min(MAX_DELAY));
    match status.code() {
        Code::ResourceExhausted | Code::OutOfRange if delay.is_none() => Verdict::Smaller,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::Internal
        | Code::Unknown
        | Code::ResourceExhausted => Verdict::Retry(delay),
        Code::InvalidArgument => Verdict::Divide,
        _ => Verdict::Refused,
    }
}

/// How long to wait before a try, longer each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

impl Backoff {
    /// After so many failures: between half of it and all of it, so that agents that failed together do not come back
    /// together.
    pub fn after(&self, failures: u32) -> Duration {
        jitter(self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest), random())
    }

    /// The longest, with jitter.
    pub fn longest(&self) -> Duration {
        jitter(self.longest, random())
    }
}

fn jitter(whole: Duration, random: u64) -> Duration {
    let part = u32::try_from(random % 1024).unwrap_or(0);
    whole / 2 + whole / 2 * part / 1024
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_table_is_otlps_but_for_who_is_not_let_in() {
        let of = |code| verdict(&Status::new(code, ""));
        for code in
            [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::Cancelled, Code::DataLoss, Code::Internal]
        {
            assert_eq!(of(code), Verdict::Retry(None), "{code:?}");
        }
        assert_eq!(of(Code::ResourceExhausted), Verdict::Smaller);
        assert_eq!(of(Code::OutOfRange), Verdict::Smaller);
        assert_eq!(of(Code::InvalidArgument), Verdict::Divide);
        for code in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented, Code::NotFound] {
            assert_eq!(of(code), Verdict::Refused, "{code:?}");
        }
        let seconds = |seconds| ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
        let asked = Status::with_error_details(Code::ResourceExhausted, "", seconds(7));
        assert_eq!(verdict(&asked), Verdict::Retry(Some(Duration::from_secs(7))));
        let forever = Status::with_error_details(Code::Unavailable, "", seconds(86_400));
        assert_eq!(verdict(&forever), Verdict::Retry(Some(Duration::from_mins(5))));
    }

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
        for (failures, most) in [(1, 100), (2, 200), (3, 400), (7, 5000), (1000, 5000)] {
            let wait = backoff.after(failures).as_millis();
            assert!(wait >= most / 2 && wait <= most, "{failures}: {wait}");
        }
    }
}
