//! Events and lists of captures change which users and groups are known.

use super::*;
use crate::event::call::Params;

/// Applies an event with these parameters.
fn apply(state: &mut State, code: Code, tid: i64, params: &[&[u8]]) {
    let lengths: Vec<u8> = params.iter().flat_map(|param| u16::try_from(param.len()).unwrap().to_le_bytes()).collect();
    let values = params.concat();
    let params = Params::new(&lengths, &values, false);
    state.call(
        ThreadKey::exact(tid),
        &Call { info: code.info().unwrap(), number: 1, ts_ns: 1, tid, cpu: 0, state_only: false, params, told: None },
    );
}

fn add(state: &mut State, uid: u32, name: &[u8], container: &[u8]) {
    apply(state, Code::USER_ADDED_E, -1, &[&uid.to_le_bytes(), &[0; 4], name, b"/home\0", b"/bin/sh\0", container]);
}

fn name(state: &State, container: &str, uid: u32) -> Option<String> {
    state.users.user(container, uid).map(|user| String::from_utf8(user.name.to_vec()).unwrap())
}

#[test]
fn users_and_groups_come_and_go() {
    let mut state = State::default();
    state.users.list(&listed::User { uid: 33, gid: 33, name: b"www-data", home: b"/var/www", shell: b"/bin/false" });
    state.users.list_group(&listed::Group { gid: 4, name: b"adm" });
    add(&mut state, 1000, b"app\0", b"\0");
    apply(&mut state, Code::GROUP_ADDED_E, -1, &[&7_u32.to_le_bytes(), b"lp\0", b"\0"]);
    let app = User { name: (*b"app").into(), home: (*b"/home").into(), shell: (*b"/bin/sh").into() };
    assert_eq!(state.users.user("", 1000), Some(&app));
    assert_eq!(name(&state, "", 33).as_deref(), Some("www-data"));
    let group = |state: &State, gid| state.users.group("", gid).map(|group| group.name.to_vec());
    assert_eq!((group(&state, 4), group(&state, 7)), (Some(b"adm".to_vec()), Some(b"lp".to_vec())));
    add(&mut state, 1000, b"renamed\0", b"\0");
    assert_eq!(name(&state, "", 1000).as_deref(), Some("renamed"));
    apply(&mut state, Code::USER_DELETED_E, -1, &[&1000_u32.to_le_bytes(), &[0; 4], b"\0", b"\0", b"\0", b"\0"]);
    apply(&mut state, Code::GROUP_DELETED_E, -1, &[&7_u32.to_le_bytes(), b"\0", b"\0"]);
    assert_eq!((name(&state, "", 1000), group(&state, 7)), (None, None));
}

#[test]
fn users_of_containers_are_not_known() {
    let mut state = State::default();
    add(&mut state, 33, b"www-data\0", b"\0");
    add(&mut state, 1000, b"app\0", b"3ad7b26ded6d\0");
    apply(
        &mut state,
        Code::USER_DELETED_E,
        -1,
        &[&33_u32.to_le_bytes(), &[0; 4], b"\0", b"\0", b"\0", b"3ad7b26ded6d\0"],
    );
    assert_eq!(name(&state, "", 33).as_deref(), Some("www-data"));
    for (container, uid) in [("3ad7b26ded6d", 1000), ("3ad7b26ded6d", 33), ("", 1000)] {
        assert_eq!(name(&state, container, uid), None);
    }
}

#[test]
fn the_list_counts_for_more_than_the_first_events() {
    let mut state = State::default();
    state.users.list(&listed::User { uid: 33, gid: 33, name: b"www-data", home: b"", shell: b"" });
    apply(&mut state, Code::USER_DELETED_E, -1, &[&33_u32.to_le_bytes(), &[0; 4], b"\0", b"\0", b"\0", b"\0"]);
    apply(&mut state, Code::GENERIC_X, 1, &[]);
    assert_eq!(name(&state, "", 33).as_deref(), Some("www-data"), "what Falco lists when the first events are over");
    apply(&mut state, Code::USER_DELETED_E, -1, &[&33_u32.to_le_bytes(), &[0; 4], b"\0", b"\0", b"\0", b"\0"]);
    apply(&mut state, Code::GENERIC_X, 1, &[]);
    assert_eq!(name(&state, "", 33), None);
}

#[test]
fn names_are_cut_and_placeholders_passed_over() {
    let mut state = State::default();
    add(&mut state, 1, &[b'x'; 300], b"\0");
    assert_eq!(name(&state, "", 1).unwrap().len(), MAX_NAME);
    add(&mut state, 2, b"+@nis\0", b"\0");
    add(&mut state, 3, b"", b"\0");
    state.users.list(&listed::User { uid: 4, gid: 4, name: b"-nis", home: b"", shell: b"" });
    assert_eq!([2, 3, 4].map(|uid| name(&state, "", uid)), [None, None, None]);
}

#[test]
fn root_has_a_name_wherever_it_is_seen() {
    let mut state = State::default();
    assert_eq!((name(&state, "", 0), state.users.group("", 0)), (None, None));
    let mut params = [&[0; 8][..]; 20];
    (params[14], params[1], params[2], params[13]) = (b"", b"x\0", b"", b"x\0");
    (params[15], params[16], params[17]) = (&[0; 4], &[0; 4], &[0; 4]);
    apply(&mut state, Code::SYSCALL_CLONE_20_X, 10, &params);
    assert_eq!(name(&state, "", 0).as_deref(), Some("root"));
    assert_eq!(state.users.group("", 0).map(|group| &*group.name), Some(&b"root"[..]));
}
