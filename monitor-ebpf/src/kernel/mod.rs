//! Reading kernel structures from BPF, and sending what was read.
pub mod emit;
pub mod file;
pub mod globals;
pub mod layouts;
pub mod maps;
pub mod read;
pub mod script;
pub mod socket;
pub mod subject;
pub mod tail;
pub mod task;
