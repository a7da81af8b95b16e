//! The library's tests, one small file for each behaviour.

mod workloads;
