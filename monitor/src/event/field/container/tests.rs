//! What fields of containers, pods and users give: on the host, in a container that is known, in one of which only the id is
//! known, and for a thread that is not known.

use super::*;
use crate::{
    context::Evidence,
    event::{
        Body, Event,
        call::{Call, Params},
        field::{Field, Fields as _},
        listed,
        schema::Code,
    },
    state::State,
};

/// Host, a known container, its pod's, one of which only the id is known.
const HOST: i64 = 1;
const KNOWN: i64 = 2;
const BARE: i64 = 3;
const STRANGER: i64 = 4;

const DOCUMENT: &[u8] = br#"{"container":{"type":7,"id":"111111111111","full_id":"1111111111111","name":"app",
    "image":"web:1.4","imageid":"5b1c","imagedigest":"sha256:2a","imagerepo":"web","imagetag":"1.4","User":"nginx",
    "host_network":true,"privileged":true,"ip":"10.0.0.7",
    "labels":{"io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"prod","io.kubernetes.pod.uid":"7c9e",
        "tier":"front","app":"web","empty":"","0":"zero","annotation.x":"y"},
    "pod_sandbox_id":"2222222222223333","pod_sandbox_labels":{"own":"1"},
    "Mounts":[{"Source":"/etc","Destination":"/host/etc","Mode":"ro","RW":false,"Propagation":"private"},
        {"Source":"/var/run/docker.sock","Destination":"/run/x","Mode":"","RW":true,"Propagation":"rprivate"}]}}"#;
const SANDBOX: &[u8] = br#"{"container":{"type":7,"id":"222222222222","name":"pod","ip":"10.0.0.8",
    "cni_json":"{}","pod_sandbox_labels":{"pod":"yes"}}}"#;

fn apply(state: &mut State, code: Code, tid: i64, params: &[&[u8]]) {
    with_call(code, tid, params, |event| state.apply(event));
}

/// Makes an event of parameters.
fn with_call<R>(code: Code, tid: i64, params: &[&[u8]], then: impl FnOnce(&Event<'_>) -> R) -> R {
    let lengths: Vec<u8> = params.iter().flat_map(|param| u16::try_from(param.len()).unwrap().to_le_bytes()).collect();
    let values = params.concat();
    let params = Params::new(&lengths, &values, false);
    let call =
        Call { info: code.info().unwrap(), number: 1, ts_ns: 5000, tid, cpu: 0, state_only: false, params, told: None };
    then(&Event::unrecorded(call.ts_ns, tid, Body::Call(call.clone())))
}

/// A node with these threads, of which the first is of the host.
fn node() -> State {
    let mut state = State::default();
    let cgroups = |short: &str| format!("cpuset=/docker/{}\0", short.repeat(64)).into_bytes();
    for (tid, uid, cgroups) in [(HOST, 33, b"cpuset=/\0".to_vec()), (KNOWN, 0, cgroups("1")), (BARE, 33, cgroups("3"))]
    {
        let thread = listed::Thread {
            tid,
            pid: tid,
            uid,
            gid: uid,
            cgroups: &cgroups,
            pidns_init_start_ns: if tid == KNOWN { 4000 } else { 0 },
            ..listed::Thread::default()
        };
        state.apply(&Event::unrecorded(0, 0, Body::ListedThread(thread)));
    }
    let user = listed::User { uid: 33, gid: 33, name: b"www-data", home: b"/var/www", shell: b"/bin/false" };
    state.apply(&Event::unrecorded(0, 0, Body::ListedUser(user)));
    state.apply(&Event::unrecorded(0, 0, Body::ListedGroup(listed::Group { gid: 33, name: b"web" })));
    for document in [DOCUMENT, SANDBOX] {
        apply(&mut state, Code::ASYNCEVENT_E, -1, &[&[0; 4], b"container\0", document]);
    }
    state
}

/// What a field gives for an event of a thread, as text. `field[argument]` has a key, or a number.
fn value(state: &mut State, code: Code, tid: i64, params: &[&[u8]], field: &str) -> Option<String> {
    let (name, argument) = match field.strip_suffix(']').and_then(|field| field.split_once('[')) {
        Some((name, argument)) => match argument.parse() {
            Ok(index) => (name, Argument::Index(index)),
            Err(_) => (name, Argument::Key(argument.into())),
        },
        None => (field, Argument::None),
    };
    with_call(code, tid, params, |event| {
        state.apply(event);
        let context = Context::new(state, event, 1, Evidence::Event).unwrap();
        context.value(Field::find(name).unwrap(), &argument).map(|value| match value {
            Value::Text(text) => String::from_utf8(text.into_owned()).unwrap(),
            Value::Uint(number) => number.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            other => format!("{other:?}"),
        })
    })
}

/// What a field gives for a call of each thread.
fn of_threads(state: &mut State, field: &str) -> [Option<String>; 3] {
    [HOST, KNOWN, BARE].map(|tid| value(state, Code::SYSCALL_UNLINK_2_X, tid, &[&[0; 8], b"/x\0"], field))
}

#[test]
fn fields_are_those_of_the_threads_container() {
    let mut state = node();
    let none = None::<&str>;
    for (field, expected) in [
        ("container.id", [Some("host"), Some("111111111111"), Some("333333333333")]),
        ("container.full_id", [Some("host"), Some("1111111111111"), none]),
        ("container.name", [Some("host"), Some("app"), none]),
        ("container.type", [Some("host"), Some("containerd"), none]),
        ("container.image", [Some(""), Some("web:1.4"), none]),
        ("container.image.id", [Some(""), Some("5b1c"), none]),
        ("container.image.repository", [Some(""), Some("web"), none]),
        ("container.image.tag", [Some(""), Some("1.4"), none]),
        ("container.image.digest", [Some(""), Some("sha256:2a"), none]),
        ("container.privileged", [Some("false"), Some("true"), none]),
        ("container.host_network", [Some("false"), Some("true"), none]),
        ("container.host_pid", [Some("false"), Some("false"), none]),
        ("container.host_ipc", [Some("false"), Some("false"), none]),
        ("container.ip", [Some(""), Some("10.0.0.7"), none]),
        ("container.cni.json", [Some(""), Some(""), none]),
        ("container.label[tier]", [none, Some("front"), none]),
        ("container.label[0]", [none, Some("zero"), none]),
        ("container.label[nothing]", [none, none, none]),
        ("container.labels", [Some(""), Some("0:zero, app:web, empty, tier:front"), none]),
        ("container.start_ts", [none, Some("4000"), none]),
        ("container.duration", [none, Some("1000"), none]),
        ("container.healthcheck", [none, none, none]),
        ("k8s.pod.name", [none, Some("web-0"), none]),
        ("k8s.ns.name", [none, Some("prod"), none]),
        ("k8s.pod.uid", [none, Some("7c9e"), none]),
        ("k8s.pod.id", [none, Some("7c9e"), none]),
        ("k8s.pod.sandbox_id", [Some(""), Some("222222222222"), none]),
        ("k8s.pod.full_sandbox_id", [Some(""), Some("2222222222223333"), none]),
        ("k8s.pod.label[pod]", [none, Some("yes"), none]),
        ("k8s.pod.label[own]", [none, Some("1"), none]),
        ("k8s.pod.labels", [Some(""), Some("pod:yes"), none]),
        ("k8s.pod.ip", [Some(""), Some("10.0.0.8"), none]),
        ("k8s.pod.cni.json", [Some(""), Some("{}"), none]),
        ("k8s.ns.label[x]", [none, none, none]),
        ("user.name", [Some("www-data"), Some("root"), Some("<NA>")]),
        ("user.homedir", [Some("/var/www"), Some("/root"), Some("<NA>")]),
        ("user.shell", [Some("/bin/false"), Some("<NA>"), Some("<NA>")]),
        ("user.loginuid", [Some("-1"), Some("-1"), Some("-1")]),
        ("user.loginname", [Some("<NA>"), Some("<NA>"), Some("<NA>")]),
        ("group.name", [Some("web"), Some("root"), Some("<NA>")]),
    ] {
        assert_eq!(of_threads(&mut state, field), expected.map(|value| value.map(str::to_owned)), "{field}");
    }
}

#[test]
fn mounts_are_found_by_number_and_by_pattern() {
    let mut state = node();
    for (field, expected) in [
        ("container.mounts", Some("/etc:/host/etc:ro:false:private,/var/run/docker.sock:/run/x::true:rprivate")),
        ("container.mount[1]", Some("/var/run/docker.sock:/run/x::true:rprivate")),
        ("container.mount[2]", None),
        ("container.mount.dest[/var/run/docker.sock]", Some("/run/x")),
        ("container.mount.dest[/etc/*]", Some("/host/etc")),
        ("container.mount.dest[^/run]", None),
        ("container.mount.dest[/host]", None),
        ("container.mount.source[/host]", Some("/etc")),
        ("container.mount.source[^/run/x$]", Some("/var/run/docker.sock")),
        ("container.mount.mode[/etc]", Some("ro")),
        ("container.mount.mode[1]", Some("")),
        ("container.mount.rdwr[/]", Some("false")),
        ("container.mount.propagation[docker]", Some("rprivate")),
        ("container.mount.dest[(]", None),
        ("container.mount.dest[x*]", None),
    ] {
        let [host, known, bare] = of_threads(&mut state, field);
        assert_eq!(known.as_deref(), expected, "{field}");
        let on_host = (field == "container.mounts").then(String::new);
        assert_eq!((host, bare), (on_host, None), "{field}");
    }
}

#[test]
fn an_event_that_tells_of_a_container_is_about_that_one() {
    let mut state = node();
    let told: &[&[u8]] = &[&[0; 4], b"container_removed\0", DOCUMENT];
    let mut of = |tid, field: &str| value(&mut state, Code::ASYNCEVENT_E, tid, told, field);
    for tid in [HOST, KNOWN, STRANGER] {
        assert_eq!(of(tid, "container.id").as_deref(), Some("111111111111"));
        assert_eq!(of(tid, "k8s.pod.name").as_deref(), Some("web-0"));
        assert_eq!(of(tid, "container.start_ts"), None);
    }
    assert_eq!(of(HOST, "user.name").as_deref(), Some("www-data"), "which is the thread's still");
    assert_eq!(of(STRANGER, "user.name"), None);
    assert_eq!(of_threads(&mut state, "container.name")[1], None, "it is not known any more");
    let told: &[&[u8]] = &[&[0; 4], b"container\0", DOCUMENT];
    let mut name = |tid| value(&mut state, Code::ASYNCEVENT_E, tid, told, "user.name");
    assert_eq!([HOST, KNOWN, STRANGER].map(&mut name), [Some("www-data".into()), Some("nginx".into()), None]);
    let mut wrong =
        |tid, field: &str| value(&mut state, Code::ASYNCEVENT_E, tid, &[&[0; 4], b"container\0", b"{"], field);
    assert_eq!(wrong(KNOWN, "container.id").as_deref(), Some("111111111111"), "its thread's");
    assert_eq!(wrong(STRANGER, "container.id"), None);
}

#[test]
fn a_container_without_a_pod_has_the_hosts_entry_for_its_pod() {
    let mut state = node();
    let alone = br#"{"container":{"id":"333333333333","ip":"172.17.0.2","pod_sandbox_labels":{"a":"b"}}}"#;
    apply(&mut state, Code::CONTAINER_JSON_E, -1, &[alone]);
    let mut of = |field: &str| of_threads(&mut state, field)[2].clone();
    assert_eq!(of("container.ip").as_deref(), Some("172.17.0.2"));
    assert_eq!([of("k8s.pod.ip"), of("k8s.pod.labels")], [Some(String::new()), Some(String::new())]);
    assert_eq!(of("k8s.pod.label[a]").as_deref(), Some("b"));
}
