//! Random testing of [`tospace`]: programs are generated from sequences of choices, compiled, and run
//! under every collector; an interpreter that has no collector says what they have to do.
//!
//! In the order in which a program meets them:
//!
//! | module | |
//! |---|---|
//! | [`choices`] | a sequence of numbers, from a seed; shrinking one shrinks the program |
//! | [`generate`] | the program that a sequence stands for: always well-typed, always terminating |
//! | [`program`] | what programs are made of |
//! | [`interpret`] | what one has to do, on the [`model`] of a heap |
//! | [`compile`] | its code, with the [`host`] functions that it calls |
//! | [`run`] | runs it under one configuration, in each mode |
//! | [`compare`] | walks what is alive at the end, in step with the model |
//!
//! What is compared: the results and the trap of each call from the host, what the program observed
//! up to then, the numbers of objects and bytes allocated, and all objects that are reachable at the
//! end: layout, number, fields, and which references are to the same one.
//!
//! [`fault`] has what has to be found, [`textbook`] a collector written outside of the crate that can
//! be made wrong. `cargo run -p fuzz -- --fault skip-slot` shows what a finding looks like.

pub mod cells;
pub mod choices;
pub mod compare;
pub mod compile;
pub mod fault;
pub mod generate;
pub mod heap_layout;
pub mod host;
pub mod interpret;
pub mod model;
mod print;
pub mod program;
pub mod run;
pub mod textbook;
