//! Events of captures change what is known of containers, and which one a thread is in.

use super::*;
use crate::event::call::Params;

const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";
const SHORT: &str = "3ad7b26ded6d";

/// Applies an event with these parameters.
fn apply(state: &mut State, code: Code, tid: i64, params: &[&[u8]]) {
    let width = if code == Code::CONTAINER_JSON_2_E { 4 } else { 2 };
    let lengths: Vec<u8> =
        params.iter().flat_map(|param| u32::try_from(param.len()).unwrap().to_le_bytes()[..width].to_vec()).collect();
    let values = params.concat();
    let params = Params::new(&lengths, &values, width == 4);
    let call =
        Call { info: code.info().unwrap(), number: 1, ts_ns: 1, tid, cpu: 0, state_only: false, params, told: None };
    state.call(ThreadKey::exact(tid), &call);
}

/// `clone` or `execve` of a thread: nothing but what its end returned, its process and its control groups.
fn ended(state: &mut State, code: Code, tid: i64, ret: i64, cgroups: &[u8]) {
    let mut params = [&b""[..]; 21];
    let (ret, pid, parent, flags) = (ret.to_le_bytes(), tid.to_le_bytes(), 1_i64.to_le_bytes(), 0_u32.to_le_bytes());
    (params[0], params[1], params[3], params[4], params[5]) = (&ret, b"x\0", &pid, &pid, &parent);
    (params[14], params[15]) = (cgroups, &flags);
    if code == Code::SYSCALL_CLONE_20_X {
        (params[18], params[19]) = (&pid, &pid);
    }
    apply(state, code, tid, &params);
}

fn container(state: &State, tid: i64) -> Option<&str> {
    state.threads.get(ThreadKey::exact(tid)).unwrap().container.as_deref()
}

fn json(id: &str, rest: &str) -> Vec<u8> {
    format!("{{\"container\":{{\"id\":\"{id}\"{rest}}}}}\0").into_bytes()
}

fn notice(state: &mut State, name: &[u8], json: &[u8]) {
    apply(state, Code::ASYNCEVENT_E, -1, &[&[0; 4], name, json]);
}

#[test]
fn lists_of_control_groups_get_the_kernels_names() {
    let mut containers = Containers::default();
    for (list, expected) in [
        (
            &b"cpuset=/a\0cpu_cgroup=/b\0perf=/c\0mem=/d\0io=/e\0"[..],
            Some(&b"cpuset=/a\0cpu=/b\0perf_event=/c\0memory=/d\0blkio=/e"[..]),
        ),
        (b"mem_cgroup=/x=y\0io_cgroup_cgroup=", Some(b"memory=/x=y\0io_cgroup=")),
        (b"\0", Some(b"")),
        (b"", Some(b"")),
        (b"cpu=/a\0\0", None),
        (b"cpu=/a\0cut of", None),
    ] {
        for _ in 0..2 {
            assert_eq!(containers.control_groups(list).as_deref(), expected, "{}", list.escape_ascii());
        }
    }
    let [first, second] = [(); 2].map(|()| containers.control_groups(b"cpu=/a").unwrap());
    assert!(Arc::ptr_eq(&first, &second), "threads share their lists");
}

#[test]
fn the_first_path_with_a_container_tells() {
    let mut containers = Containers::default();
    let list = format!("cpuset=/\0cpu=\0memory=/docker/{ID}\0blkio=/k8s.io/task1");
    assert_eq!(containers.of_control_groups(list.as_bytes()).as_deref(), Some(SHORT));
    assert_eq!(containers.of_control_groups(b"cpuset=/\0memory=/system.slice/ssh.service"), None);
    assert_eq!(containers.metadata(SHORT), None, "the path tells no more than the id");
    assert_eq!(containers.of_control_groups(b"cpuset=/lxc.payload.web").as_deref(), Some("web"));
    assert_eq!(containers.metadata("web").unwrap().engine.name(), "lxc");
}

#[test]
fn threads_are_in_a_container_from_their_own_clone_or_exec_on() {
    let mut state = State::default();
    let inside = format!("cpuset=/docker/{ID}\0");
    ended(&mut state, Code::SYSCALL_EXECVE_19_X, 10, 0, inside.as_bytes());
    assert_eq!(container(&state, 10), Some(SHORT));
    ended(&mut state, Code::SYSCALL_CLONE_20_X, 10, 11, inside.as_bytes());
    assert_eq!(container(&state, 11), None, "its maker told of it");
    ended(&mut state, Code::SYSCALL_EXECVE_19_X, 11, -2, b"");
    assert_eq!(container(&state, 11), None, "a failure changes nothing");
    ended(&mut state, Code::SYSCALL_EXECVE_19_X, 11, 0, b"");
    assert_eq!(container(&state, 11), Some(SHORT), "it had its control groups all the time");
    ended(&mut state, Code::SYSCALL_CLONE_20_X, 12, 0, inside.as_bytes());
    assert_eq!(container(&state, 12), Some(SHORT));
    ended(&mut state, Code::SYSCALL_EXECVE_19_X, 12, 0, b"cpuset=/\0");
    assert_eq!(container(&state, 12), None, "it has left");
}

#[test]
fn events_tell_of_containers_and_of_their_end() {
    let mut state = State::default();
    let app = json(SHORT, r#","name":"app""#);
    notice(&mut state, b"container\0", &app);
    assert_eq!(state.containers.told().unwrap().name, "app");
    assert_eq!(state.containers.metadata(SHORT).unwrap().name, "app");
    apply(&mut state, Code::CONTAINER_JSON_E, 0, &[&json("ad8301db070e", r#","ip":"172.17.0.2""#)]);
    apply(&mut state, Code::CONTAINER_JSON_2_E, 0, &[&json("c644607f2c4e", "")]);
    apply(&mut state, Code::CONTAINER_E, 0, &[b"5ea733068030\0", &[0; 4], b"falco\0", b"x:latest\0"]);
    let old = state.containers.metadata("5ea733068030").unwrap();
    assert_eq!((&*old.name, &*old.image, old.engine.name()), ("falco", "x:latest", "docker"));
    assert_eq!(state.containers.all_metadata().count(), 4);
    notice(&mut state, b"container_removed\0", &app);
    assert_eq!(state.containers.told().unwrap().name, "app", "the event is about it still");
    assert_eq!(state.containers.metadata(SHORT), None);
    notice(&mut state, b"another\0", &app);
    assert_eq!((state.containers.told(), state.containers.metadata(SHORT)), (None, None));
}

#[test]
fn what_is_not_understood_is_counted_and_the_host_stays_the_host() {
    let mut state = State::default();
    for wrong in [&b"\0"[..], b"", b"{\"container\":{\"id\":1}}\0"] {
        notice(&mut state, b"container\0", wrong);
        assert_eq!(state.containers.told(), None);
    }
    for name in [&b"container\0"[..], b"container_removed\0"] {
        notice(&mut state, name, &json("", r#","name":"x""#));
    }
    assert_eq!(state.containers.malformed(), 5);
    assert_eq!(state.containers.metadata("").unwrap().name, "host");
}

#[test]
fn containers_are_bounded() {
    let mut containers = Containers::default();
    for number in 0..=MAX_CONTAINERS {
        containers.tell(Some(Metadata::bare(&number.to_string(), Engine::UNKNOWN)), false);
    }
    assert_eq!(containers.all_metadata().count(), MAX_CONTAINERS);
    assert_eq!((containers.metadata("0"), containers.metadata("1").is_some()), (None, true));
}
