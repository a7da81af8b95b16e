//! Random testing of [`tospace`]: programs are generated from sequences of choices, compiled, and run
//! under every collector; an interpreter that has no collector says what they have to do.

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
