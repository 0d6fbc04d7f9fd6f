//! What subscribers get: order, loss, changes of the rules, cursors, and what they get after they were away.
use std::path::Path;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    output::{
        sample,
        spool::{Threads, files::Disk},
    },
    proto::v1::{Filter, Kind, ListRequest, Priority},
};

/// A sequence number and little else, so that sizes are small and equal.
fn small(sequence: u64) -> Arc<Finding> {
    Arc::new(Finding { sequence, ..Finding::default() })
}

fn hub(findings: usize) -> Arc<Hub> {
    Hub::with_limits("epoch", Limits { findings, ..Limits::default() })
}

fn publish(hub: &Hub, sequences: std::ops::RangeInclusive<u64>) {
    sequences.for_each(|sequence| hub.publish(small(sequence)));
}

fn earliest() -> Open {
    Open { start_from: StartFrom::Earliest.into(), ..Open::default() }
}

fn at(cursor: &str) -> Open {
    Open { start_from: StartFrom::Cursor.into(), cursor: cursor.to_owned(), ..Open::default() }
}

async fn next(subscription: &mut Subscription) -> Response {
    subscription.next().await.unwrap().response.unwrap()
}

async fn opened(hub: &Arc<Hub>, open: Open) -> Subscription {
    let mut subscription = hub.subscribe(open).unwrap();
    assert!(matches!(next(&mut subscription).await, Response::Heartbeat(_)));
    subscription
}

fn batch(response: Response) -> (Vec<u64>, String) {
    match response {
        Response::Batch(batch) => (batch.findings.iter().map(|finding| finding.sequence).collect(), batch.cursor),
        other => panic!("{other:?}"),
    }
}

fn loss(response: Response) -> (u64, u64, String, String) {
    match response {
        Response::Loss(loss) => (loss.findings, loss.records, loss.cause, loss.cursor),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn tail_starts_with_what_is_published_next() {
    let hub = hub(10);
    publish(&hub, 1..=3);
    let mut subscription = opened(&hub, Open::default()).await;
    publish(&hub, 4..=5);
    assert_eq!(batch(next(&mut subscription).await).0, [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn earliest_starts_with_the_oldest_kept_and_batches_are_bounded() {
    let hub = hub(300);
    publish(&hub, 1..=1000);
    let mut subscription = opened(&hub, earliest()).await;
    assert_eq!(batch(next(&mut subscription).await).0, (701..=956).collect::<Vec<_>>());
    assert_eq!(batch(next(&mut subscription).await).0, (957..=1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_goes_on_where_it_was_given() {
    let hub = hub(10);
    publish(&hub, 1..=3);
    let mut first = opened(&hub, earliest()).await;
    let (_, cursor) = batch(next(&mut first).await);
    publish(&hub, 4..=5);
    let mut second = opened(&hub, at(&cursor)).await;
    assert_eq!(batch(next(&mut second).await).0, [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_older_than_the_ring_is_told_what_expired() {
    let hub = hub(10);
    publish(&hub, 1..=3);
    let (_, cursor) = batch(next(&mut opened(&hub, earliest()).await).await);
    publish(&hub, 4..=20);
    let mut subscription = hub.subscribe(at(&cursor)).unwrap();
    let (findings, records, cause, cursor) = loss(next(&mut subscription).await);
    assert_eq!((findings, records, cause.as_str()), (7, 0, "expired"));
    assert!(matches!(next(&mut subscription).await, Response::Heartbeat(_)));
    assert_eq!(batch(next(&mut subscription).await).0, (11..=20).collect::<Vec<_>>());
    // The loss is not told again to whom comes back with the cursor that came with it.
    let mut again = opened(&hub, at(&cursor)).await;
    assert_eq!(batch(next(&mut again).await).0, (11..=20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_run_starts_over_and_says_so() {
    let hub = hub(10);
    publish(&hub, 1..=12);
    let mut subscription = hub.subscribe(at("former:7:0:0:0")).unwrap();
    let (findings, _, cause, _) = loss(next(&mut subscription).await);
    assert_eq!((findings, cause.as_str()), (2, "expired"));
    assert!(matches!(next(&mut subscription).await, Response::Heartbeat(_)));
    assert_eq!(batch(next(&mut subscription).await).0, (3..=12).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_falls_behind_is_told_the_exact_number() {
    let hub = hub(10);
    let mut subscription = opened(&hub, Open::default()).await;
    publish(&hub, 1..=2);
    assert_eq!(batch(next(&mut subscription).await).0, [1, 2]);
    publish(&hub, 3..=1000);
    let (findings, records, cause, cursor) = loss(next(&mut subscription).await);
    assert_eq!((findings, records, cause.as_str(), cursor.as_str()), (988, 0, "slow_subscriber", "epoch:990:0:0:0"));
    assert_eq!(batch(next(&mut subscription).await).0, (991..=1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn bytes_bound_the_ring_and_a_finding_larger_than_it_is_reported() {
    let sample = sample::drift(1);
    let one = sample.encoded_len();
    let hub = Hub::with_limits("epoch", Limits { bytes: 3 * one, ..Limits::default() });
    let mut subscription = opened(&hub, Open::default()).await;
    (1..=5).for_each(|sequence| hub.publish(Arc::new(sample::drift(sequence))));
    assert_eq!(loss(next(&mut subscription).await).0, 2);
    assert_eq!(batch(next(&mut subscription).await).0, [3, 4, 5]);
    hub.publish(Arc::new(Finding { message: "x".repeat(4 * one), ..sample::drift(6) }));
    assert_eq!(loss(next(&mut subscription).await).0, 1);
    hub.publish(Arc::new(sample::drift(7)));
    assert_eq!(batch(next(&mut subscription).await).0, [7]);
}

#[tokio::test(start_paused = true)]
async fn large_findings_make_small_batches() {
    let hub = Hub::new("epoch");
    for sequence in 1..=4 {
        let message = "x".repeat(if sequence == 2 { 2 << 20 } else { 400 << 10 });
        hub.publish(Arc::new(Finding { sequence, message, ..Finding::default() }));
    }
    let mut subscription = opened(&hub, earliest()).await;
    assert_eq!(batch(next(&mut subscription).await).0, [1]);
    assert_eq!(batch(next(&mut subscription).await).0, [2]);
    assert_eq!(batch(next(&mut subscription).await).0, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn lost_records_are_told_once_and_also_to_who_was_away() {
    let hub = hub(10);
    hub.report_record_loss(RecordLoss::RingFull, 5);
    let mut subscription = opened(&hub, Open::default()).await;
    hub.report_record_loss(RecordLoss::RingFull, 0);
    hub.report_record_loss(RecordLoss::RingFull, 7);
    hub.report_record_loss(RecordLoss::Unreadable, 2);
    let (findings, records, cause, _) = loss(next(&mut subscription).await);
    assert_eq!((findings, records, cause.as_str()), (0, 7, "ring_full"));
    let (_, records, cause, cursor) = loss(next(&mut subscription).await);
    assert_eq!((records, cause.as_str()), (2, "unreadable"));
    hub.report_record_loss(RecordLoss::Unreadable, 3);
    let mut back = opened(&hub, at(&cursor)).await;
    let (_, records, cause, _) = loss(next(&mut back).await);
    assert_eq!((records, cause.as_str()), (3, "unreadable"));
    let mut from_the_start = opened(&hub, earliest()).await;
    assert_eq!(loss(next(&mut from_the_start).await).1, 12);
    assert_eq!(loss(next(&mut from_the_start).await).1, 5);
}

fn changed(rules: u32) -> RulesChange {
    RulesChange { rules, ..RulesChange::default() }
}

fn change(response: Response) -> (u64, u32, String) {
    match response {
        Response::RulesChange(change) => (change.number, change.rules, change.cursor),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_rules_stands_between_the_findings_before_and_after_it() {
    let hub = hub(10);
    let mut tail = opened(&hub, Open::default()).await;
    publish(&hub, 1..=2);
    hub.report_rules_change(changed(7));
    publish(&hub, 3..=4);
    hub.report_rules_change(changed(8));
    hub.report_rules_change(changed(9));
    let mut start = opened(&hub, earliest()).await;
    for subscription in [&mut tail, &mut start] {
        assert_eq!(batch(next(subscription).await).0, [1, 2]);
        assert_eq!(change(next(subscription).await), (1, 7, "epoch:2:0:0:1".to_owned()));
        assert_eq!(batch(next(subscription).await).0, [3, 4]);
        assert_eq!(change(next(subscription).await), (2, 8, "epoch:4:0:0:2".to_owned()));
        assert_eq!(change(next(subscription).await), (3, 9, "epoch:4:0:0:3".to_owned()));
    }
    // Whoever comes back is told what came after its cursor, and a newcomer at the tail nothing of the past.
    let mut back = opened(&hub, at("epoch:4:0:0:2")).await;
    assert_eq!(change(next(&mut back).await).0, 3);
    let mut newcomer = opened(&hub, Open::default()).await;
    publish(&hub, 5..=5);
    for subscription in [&mut tail, &mut back, &mut newcomer] {
        assert_eq!(batch(next(subscription).await).0, [5]);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_rules_are_bounded_and_told_before_a_closed_hub_ends() {
    let hub = hub(2);
    let mut subscription = opened(&hub, Open::default()).await;
    for rules in 1..=20 {
        publish(&hub, rules..=rules);
        hub.report_rules_change(changed(0));
    }
    hub.close();
    assert_eq!(loss(next(&mut subscription).await).0, 18);
    for number in 5..=18 {
        assert_eq!(change(next(&mut subscription).await).0, number);
    }
    for number in 19..=20 {
        assert_eq!(batch(next(&mut subscription).await).0, [number]);
        assert_eq!(change(next(&mut subscription).await).0, number);
    }
    assert_eq!(subscription.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn changes_of_profiles_stand_among_those_of_the_rules_and_push_none_of_them_out() {
    let hub = hub(10);
    let mut subscription = opened(&hub, Open::default()).await;
    let profiles = |installed| ProfilesChange { installed, ..ProfilesChange::default() };
    let taken = |response| match response {
        Response::ProfilesChange(change) => (change.number, change.installed, change.cursor),
        other => panic!("{other:?}"),
    };
    hub.report_rules_change(changed(7));
    publish(&hub, 1..=1);
    hub.report_profiles_change(profiles(3));
    hub.report_rules_change(changed(8));
    assert_eq!(change(next(&mut subscription).await), (1, 7, "epoch:0:0:0:1".to_owned()));
    assert_eq!(batch(next(&mut subscription).await).0, [1]);
    assert_eq!(taken(next(&mut subscription).await), (1, 3, "epoch:1:0:0:2".to_owned()));
    assert_eq!(change(next(&mut subscription).await), (2, 8, "epoch:1:0:0:3".to_owned()));
    (1..=100).for_each(|installed| hub.report_profiles_change(profiles(installed)));
    let mut back = opened(&hub, at("epoch:1:0:0:2")).await;
    assert_eq!(change(next(&mut back).await).0, 2);
    for subscription in [&mut subscription, &mut back] {
        for number in 86..=101 {
            assert_eq!(taken(next(subscription).await).0, number);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_heartbeat_every_ten_seconds() {
    let hub = hub(10);
    let mut subscription = opened(&hub, Open::default()).await;
    for _ in 0..3 {
        let before = Instant::now();
        let Response::Heartbeat(heartbeat) = next(&mut subscription).await else { panic!() };
        assert_eq!(before.elapsed().as_secs(), 10);
        assert_eq!(heartbeat.cursor, "epoch:0:0:0:0");
        assert!(heartbeat.time_unix_nano > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_is_sent_than_there_is_credit_for_and_what_waits_is_not_passed_over() {
    let hub = hub(100);
    publish(&hub, 1..=10);
    let mut subscription = opened(&hub, Open { initial_credit: 3, ..earliest() }).await;
    assert_eq!(batch(next(&mut subscription).await), (vec![1, 2, 3], "epoch:3:0:0:0".into()));
    // A sign of life says how far the consumer has come, not how far the agent has looked.
    for _ in 0..2 {
        let waiting = next(&mut subscription).await;
        assert!(
            matches!(&waiting, Response::Heartbeat(heartbeat) if heartbeat.cursor == "epoch:3:0:0:0"),
            "{waiting:?}"
        );
    }
    assert!(subscription.add_credit(2));
    assert_eq!(batch(next(&mut subscription).await), (vec![4, 5], "epoch:5:0:0:0".into()));
    assert!(subscription.add_credit(100));
    assert_eq!(batch(next(&mut subscription).await), (vec![6, 7, 8, 9, 10], "epoch:10:0:0:0".into()));
    publish(&hub, 11..=11);
    assert_eq!(batch(next(&mut subscription).await).0, [11]);
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_credit_comes_without_unless_findings_stand_in_front_of_it() {
    let hub = hub(100);
    publish(&hub, 1..=1);
    let mut subscription = opened(&hub, Open { initial_credit: 1, ..earliest() }).await;
    assert_eq!(batch(next(&mut subscription).await).0, [1]);
    hub.report_rules_change(changed(5));
    assert_eq!(change(next(&mut subscription).await), (1, 5, "epoch:1:0:0:1".into()));
    publish(&hub, 2..=2);
    hub.report_rules_change(changed(6));
    assert!(matches!(next(&mut subscription).await, Response::Heartbeat(_)));
    assert!(subscription.add_credit(1));
    assert_eq!(batch(next(&mut subscription).await).0, [2]);
    assert_eq!(change(next(&mut subscription).await).1, 6);
}

/// A run with findings that were observed at these times.
fn run_observed(directory: &Path, epoch: u128, times: &[u64]) -> (Spool, Threads, Arc<Hub>) {
    let epoch = Uuid::from_u128(epoch);
    let (spool, threads, _) =
        Spool::open(Arc::new(Disk), directory, crate::output::spool::Limits::default(), epoch).unwrap();
    let hub = Hub::with_history(spool.clone());
    for (sequence, time) in (1..).zip(times) {
        let finding = Finding { sequence, observed_time_unix_nano: *time, ..Finding::default() };
        spool.append(&finding);
        hub.publish(Arc::new(finding));
    }
    (spool, threads, hub)
}

#[tokio::test]
async fn since_compares_each_finding_by_itself_and_order_stays_where_the_clock_stepped_back() {
    let directory = tempfile::tempdir().unwrap();
    // The second run's name is the lower one, as after the clock was set back while the agent was down.
    run_observed(directory.path(), 9, &[100, 200, 50, 150]).1.finish();
    let (spool, threads, hub) = run_observed(directory.path(), 3, &[40, 130, 20, 120]);
    while spool.status().unsaved > 0 {
        tokio::task::yield_now().await;
    }
    let since = Open { start_from: StartFrom::Since.into(), since_unix_nano: 120, ..Open::default() };
    let mut subscription = opened(&hub, since).await;
    let mut sequences = Vec::new();
    let late = Finding { sequence: 6, observed_time_unix_nano: 121, ..Finding::default() };
    publish(&hub, 5..=5);
    hub.publish(Arc::new(late));
    while sequences.last() != Some(&6) {
        if let Response::Batch(batch) = next(&mut subscription).await {
            sequences.extend(batch.findings.iter().map(|finding| finding.sequence));
        }
    }
    assert_eq!(sequences, [2, 4, 2, 4, 6], "of the run before, of this one, and of what follows");
    let request = ListRequest { since_unix_nano: 100, until_unix_nano: 150, ..ListRequest::default() };
    let page = history::list(&hub, request).await.unwrap();
    let times: Vec<_> = page.findings.iter().map(|finding| finding.observed_time_unix_nano).collect();
    assert_eq!(times, [100, 130, 120], "an earlier time in front of it hides none");
    threads.finish();
}

#[tokio::test(start_paused = true)]
async fn findings_that_the_filter_leaves_out_neither_wake_nor_silence_the_subscriber() {
    let hub = hub(10_000);
    let filter = Filter { rules: vec!["other".to_owned()], ..Filter::default() };
    let mut subscription = opened(&hub, Open { filter: Some(filter), ..Open::default() }).await;
    let start = Instant::now();
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            for sequence in 1..=1000 {
                hub.publish(small(sequence));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let Response::Heartbeat(heartbeat) = next(&mut subscription).await else { panic!() };
    assert_eq!(start.elapsed().as_secs(), 10);
    let passed: u64 = heartbeat.cursor.split(':').nth(1).unwrap().parse().unwrap();
    assert!((99..=101).contains(&passed), "the cursor passes what was left out: {passed}");
    publisher.abort();
}

#[tokio::test(start_paused = true)]
async fn filters_are_joined_by_and() {
    let hub = hub(100);
    let finding = |sequence, priority: Priority, rule: &str, kind: Kind| Finding {
        sequence,
        priority: priority.into(),
        rule: rule.to_owned(),
        kind: kind.into(),
        ..Finding::default()
    };
    hub.publish(Arc::new(finding(1, Priority::Warning, "a", Kind::Drift)));
    hub.publish(Arc::new(finding(2, Priority::Notice, "a", Kind::Drift)));
    hub.publish(Arc::new(finding(3, Priority::Error, "b", Kind::Drift)));
    hub.publish(Arc::new(finding(4, Priority::Error, "a", Kind::RuleMatch)));
    hub.publish(Arc::new(finding(5, Priority::Emergency, "c", Kind::SeccompViolation)));
    let warning = Priority::Warning.into();
    let rules = vec!["a".to_owned(), "c".to_owned()];
    let kinds = vec![Kind::Drift.into(), Kind::SeccompViolation.into()];
    let none = Filter::default;
    for (filter, expected) in [
        (none(), vec![1, 2, 3, 4, 5]),
        (Filter { min_priority: warning, ..none() }, vec![1, 3, 4, 5]),
        (Filter { rules: rules.clone(), ..none() }, vec![1, 2, 4, 5]),
        (Filter { kinds: kinds.clone(), ..none() }, vec![1, 2, 3, 5]),
        (Filter { min_priority: warning, rules, kinds, ..none() }, vec![1, 5]),
    ] {
        let mut subscription = opened(&hub, Open { filter: Some(filter), ..earliest() }).await;
        let (sequences, cursor) = batch(next(&mut subscription).await);
        assert_eq!((sequences, cursor.as_str()), (expected, "epoch:5:0:0:0"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_hub_sends_what_is_left_and_ends() {
    let hub = hub(1000);
    let mut subscription = opened(&hub, Open::default()).await;
    publish(&hub, 1..=300);
    hub.close();
    assert_eq!(batch(next(&mut subscription).await).0.len(), 256);
    assert_eq!(batch(next(&mut subscription).await).0.len(), 44);
    assert_eq!(subscription.next().await, None);
    assert_eq!(subscription.next().await, None);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_field() {
    let hub = hub(10);
    publish(&hub, 1..=3);
    let filter = |filter| Open { filter: Some(filter), ..Open::default() };
    for (open, expected) in [
        (at("nonsense"), "open.cursor: not a cursor of an agent"),
        (at(""), "open.cursor: not a cursor of an agent"),
        (at("epoch:4:0:0:0"), "open.cursor: is ahead of the newest finding of this agent"),
        (
            Open { cursor: "epoch:1:0:0:0".to_owned(), ..Open::default() },
            "open.cursor: only START_FROM_CURSOR takes one",
        ),
        (Open { start_from: 9, ..Open::default() }, "open.start_from: 9 is not known to this agent"),
        (
            filter(Filter { min_priority: 44, ..Filter::default() }),
            "open.filter.min_priority: 44 is not known to this agent",
        ),
        (filter(Filter { kinds: vec![0], ..Filter::default() }), "open.filter.kinds: 0 is not known to this agent"),
        (filter(Filter { rules: vec![String::new(); 1025], ..Filter::default() }), "open.filter.rules: more than 1024"),
    ] {
        assert_eq!(hub.subscribe(open).unwrap_err().to_string(), expected);
    }
    assert_eq!(hub.subscribers(), 0);
}

#[tokio::test]
async fn subscribers_are_bounded_and_counted() {
    let hub = Hub::with_limits("epoch", Limits { subscribers: 2, ..Limits::default() });
    let first = hub.subscribe(Open::default()).unwrap();
    let _second = hub.subscribe(Open::default()).unwrap();
    assert_eq!(hub.subscribe(Open::default()).unwrap_err(), OpenError::TooManySubscribers(2));
    drop(first);
    assert_eq!(hub.subscribers(), 1);
    hub.subscribe(Open::default()).unwrap();
}

proptest! {
    /// However publishing and reading take turns: what was received and what was reported lost is what was
    /// published, in order, without overlap.
    #[test]
    fn every_finding_is_received_or_reported_lost(
        kept in 1_usize..40, turns in prop::collection::vec((0_u64..60, 0_usize..3), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let hub = hub(kept);
            let mut subscription = opened(&hub, Open::default()).await;
            let (mut published, mut reached) = (0, 0);
            let mut take = |response: Response| match response {
                Response::Loss(loss) => reached += loss.findings,
                Response::Batch(batch) => for finding in batch.findings {
                    reached += 1;
                    assert_eq!(finding.sequence, reached);
                },
                Response::Heartbeat(heartbeat) => assert_eq!(heartbeat.cursor, format!("epoch:{reached}:0:0:0")),
                other @ (Response::RulesChange(_) | Response::ProfilesChange(_)) => panic!("{other:?}"),
            };
            for (more, reads) in turns {
                publish(&hub, published + 1..=published + more);
                published += more;
                for _ in 0..reads {
                    take(next(&mut subscription).await);
                }
            }
            hub.close();
            while let Some(response) = subscription.next().await {
                take(response.response.unwrap());
            }
            assert_eq!(reached, published);
        });
    }
}
