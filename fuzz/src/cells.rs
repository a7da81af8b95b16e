//! What compiled code and the host of a random program share, outside the heap.

use std::cell::Cell;
use std::rc::Rc;

/// Counters that compiled code reads and writes by their addresses.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cells {
    /// How many calls and turns of loops may still be made.
    pub fuel: Cell<i64>,
    /// The number of the next object.
    pub next_number: Cell<i64>,
    /// What has been observed.
    pub trace: Cell<i64>,
}

impl Cells {
    /// The address of a counter, for as long as the cells live.
    pub fn address(cell: &Cell<i64>) -> i64 {
        cell.as_ptr().expose_provenance() as i64
    }

    /// The number for an object that the host allocates.
    pub fn take_number(&self) -> i64 {
        self.next_number.replace(self.next_number.get() + 1)
    }

    /// The cells of a new program.
    pub fn shared() -> Rc<Self> {
        Rc::default()
    }
}
