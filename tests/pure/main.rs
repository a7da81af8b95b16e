//! The heap and the collectors without compiled code, driven through their public interface and
//! compared with a model.
//!
//! Small enough for Miri, which finds what no answer shows: accesses outside of an allocation, to
//! memory that was never written, through references that must not alias.
//!
//! ```sh
//! MIRIFLAGS=-Zmiri-permissive-provenance cargo +nightly miri test --test pure
//! ```

mod filling;
mod graphs;
mod world;
