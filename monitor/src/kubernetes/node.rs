//! What the agent says of its node: the condition `MonitorReady`, and that the startup taint can go. Only what is asked of the API; the
//! keeper asks it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::{Mode, NodeSettings};

/// Type of the condition.
pub const CONDITION: &str = "MonitorReady";
/// Longest message of the condition.
const MAX_MESSAGE: usize = 512;

/// A node, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Whose.
    pub metadata: Metadata,
    spec: Spec,
    status: Status,
}

/// `metadata`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Name.
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    /// With whatever keys they have: they go back as they came.
    taints: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Shown>>,
}

/// A condition that the node has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

/// What the condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether the node is watched.
    pub is_ready: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What it waits for; `None` for nothing.
    pub why_not: Option<String>,
    /// For how long.
    pub unready_for: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the condition has to say.
    pub condition: Condition,
    /// Whether the taint has to go.
    pub removes_taint: bool,
    /// Whether the agent is not ready, and the node has waited long enough.
    pub fails_open: bool,
}

/// Decides.
pub fn decide(settings: &NodeSettings, readiness: &Readiness) -> Decision {
    let fails_open =
        readiness.why_not.is_some() && !settings.fail_open.is_zero() && readiness.unready_for >= settings.fail_open;
    let condition = match &readiness.why_not {
        None => Condition { is_ready: true, reason: "Ready", message: "the node is watched".to_owned() },
        Some(why) if fails_open => {
            // A controller that looks at the condition has nothing else to go by.
            let is_ready = settings.mode == Mode::Condition;
            let waited = settings.fail_open.as_secs();
            let message = format!("the node is NOT watched, and open all the same after {waited} s: {why}");
            Condition { is_ready, reason: "FailedOpen", message }
        }
        Some(why) => Condition { is_ready: false, reason: "NotReady", message: why.clone() },
    };
    let removes_taint = settings.mode == Mode::Own && (readiness.why_not.is_none() || fails_open);
    Decision { condition, removes_taint, fails_open }
}

impl Condition {
    /// What an agent says last.
    pub fn stopped() -> Self {
        Self { is_ready: false, reason: "AgentStopped", message: "the agent was told to stop".to_owned() }
    }
}

impl Node {
    /// Whether it has a taint of this key.
    pub fn has_taint(&self, key: &str) -> bool {
        self.taints().iter().any(|taint| is(taint, key))
    }

    /// Whether the condition says this already.
    pub fn says(&self, condition: &Condition) -> bool {
        self.shown().is_some_and(|shown| {
            shown.status == word(condition.is_ready)
                && shown.reason == condition.reason
                && shown.message == short(&condition.message)
        })
    }

    /// Whether it has the condition.
    pub fn has_condition(&self) -> bool {
        self.shown().is_some()
    }

    fn shown(&self) -> Option<&Shown> {
        self.status.conditions.iter().flatten().find(|shown| shown.r#type == CONDITION)
    }

    fn taints(&self) -> &[Value] {
        self.spec.taints.as_deref().unwrap_or_default()
    }

    /// The JSON patch that takes every taint of this key away, and nothing else: it is refused if the taints are not those of this
    /// node any more. `None` where there is none of the key.
    pub fn without_taint(&self, key: &str) -> Option<Value> {
        const PATH: &str = "/spec/taints";
        if !self.has_taint(key) {
            return None;
        }
        let rest: Vec<_> = self.taints().iter().filter(|taint| !is(taint, key)).collect();
        let test = json!({"op": "test", "path": PATH, "value": self.taints()});
        Some(if rest.is_empty() {
            json!([test, {"op": "remove", "path": PATH}])
        } else {
            json!([test, {"op": "replace", "path": PATH, "value": rest}])
        })
    }

    /// The strategic merge patch of the status that writes the condition; other conditions stay as they are.
    pub fn with_condition(&self, condition: &Condition, now_s: u64) -> Value {
        let now = timestamp(now_s);
        let mut entry = json!({
            "type": CONDITION,
            "status": word(condition.is_ready),
            "reason": condition.reason,
            "message": short(&condition.message),
            "lastHeartbeatTime": now,
        });
        let is_same = self.shown().is_some_and(|shown| shown.status == word(condition.is_ready));
        if let Some(entry) = entry.as_object_mut().filter(|_| !is_same) {
            entry.insert("lastTransitionTime".to_owned(), now.into());
        }
        json!({"status": {"conditions": [entry]}})
    }

    /// The patch that takes the condition away.
    pub fn without_condition() -> Value {
        json!({"status": {"conditions": [{"$patch": "delete", "type": CONDITION}]}})
    }
}

fn is(taint: &Value, key: &str) -> bool {
    taint.get("key").and_then(Value::as_str) == Some(key)
}

const fn word(is_ready: bool) -> &'static str {
    if is_ready { "True" } else { "False" }
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_MESSAGE)).unwrap_or(text)
}

/// As the API writes times.
fn timestamp(unix_s: u64) -> String {
    let seconds = i64::try_from(unix_s).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const KEY: &str = "monitor/agent-not-ready";

    fn node(taints: &Value, conditions: &Value) -> Node {
        serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": conditions}})).unwrap()
    }

    fn settings(mode: Mode) -> NodeSettings {
        NodeSettings {
            mode,
            taint: KEY.into(),
            fail_open: Duration::from_mins(5),
            check: Duration::from_secs(15),
            heartbeat: Duration::from_mins(5),
            state_directory: PathBuf::new(),
        }
    }

    fn decided(mode: Mode, why_not: Option<&str>, seconds: u64) -> (bool, &'static str, bool, bool) {
        let readiness = Readiness { why_not: why_not.map(str::to_owned), unready_for: Duration::from_secs(seconds) };
        let Decision { condition, removes_taint, fails_open } = decide(&settings(mode), &readiness);
        (condition.is_ready, condition.reason, removes_taint, fails_open)
    }

    #[test]
    fn the_taint_goes_when_the_agent_is_ready_or_the_node_has_waited_long_enough() {
        assert_eq!(decided(Mode::Own, None, 0), (true, "Ready", true, false));
        assert_eq!(decided(Mode::Own, Some("sensor"), 299), (false, "NotReady", false, false));
        assert_eq!(decided(Mode::Own, Some("sensor"), 300), (false, "FailedOpen", true, true));
        assert_eq!(decided(Mode::Condition, None, 0), (true, "Ready", false, false));
        assert_eq!(decided(Mode::Condition, Some("sensor"), 300), (true, "FailedOpen", false, true));
        let never = NodeSettings { fail_open: Duration::ZERO, ..settings(Mode::Own) };
        let readiness = Readiness { why_not: Some("x".into()), unready_for: Duration::from_hours(99) };
        assert!(!decide(&never, &readiness).removes_taint);
    }

    #[test]
    fn other_taints_stay_and_the_patch_is_for_these_taints_alone() {
        let own = json!({"key": KEY, "effect": "NoSchedule"});
        let other = json!({"key": "other", "effect": "NoExecute", "timeAdded": "2026-11-23T00:00:00Z", "later": 1});
        let again = json!({"key": KEY, "effect": "NoExecute", "value": "x"});
        let of = |taints| node(&taints, &Value::Null);
        let patch = of(json!([own, other, again])).without_taint(KEY).unwrap();
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/spec/taints", "value": [own, other, again]},
                {"op": "replace", "path": "/spec/taints", "value": [other]},
            ])
        );
        let patch = of(json!([own])).without_taint(KEY).unwrap();
        assert_eq!(patch[1], json!({"op": "remove", "path": "/spec/taints"}));
        assert_eq!(of(json!([other])).without_taint(KEY), None);
        assert_eq!(of(Value::Null).without_taint(KEY), None);
    }

    #[test]
    fn the_condition_keeps_its_transition_as_long_as_its_status() {
        let ready = Condition { is_ready: true, reason: "Ready", message: "m".into() };
        let entry = |conditions: Value| {
            node(&Value::Null, &conditions).with_condition(&ready, 1_700_000_000)["status"]["conditions"][0].clone()
        };
        let new = entry(json!([{"type": "Ready", "status": "True"}]));
        assert_eq!(
            new,
            json!({"type": "MonitorReady", "status": "True", "reason": "Ready", "message": "m",
                "lastHeartbeatTime": "2023-11-14T22:13:20Z", "lastTransitionTime": "2023-11-14T22:13:20Z"})
        );
        let shown = json!([{"type": "MonitorReady", "status": "True", "reason": "Ready", "message": "m"}]);
        assert!(entry(shown.clone()).get("lastTransitionTime").is_none());
        assert!(entry(json!([{"type": "MonitorReady", "status": "False"}])).get("lastTransitionTime").is_some());
        assert!(node(&Value::Null, &shown).says(&ready));
        assert!(!node(&Value::Null, &shown).says(&Condition { message: "other".into(), ..ready.clone() }));
        let long = Condition { message: "é".repeat(MAX_MESSAGE), ..ready };
        let patch = node(&Value::Null, &Value::Null).with_condition(&long, 0);
        assert!(patch["status"]["conditions"][0]["message"].as_str().unwrap().len() <= MAX_MESSAGE);
    }
}
