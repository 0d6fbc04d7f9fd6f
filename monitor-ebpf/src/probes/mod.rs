//! One file per hook. Entries are named after their hook; the agent loads them by these names.
pub mod baseline;
pub mod call;
pub mod cgroup;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod open;
pub mod pair;
pub mod seccomp;
pub mod signal;
pub mod sys_exit;
pub mod task_iter;
