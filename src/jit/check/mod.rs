//! A check at definition time: finds the references that a collection would miss, before the code
//! runs.
//!
//! Works on any CLIF as it is handed to Cranelift: after `FunctionBuilder::finalize`, which stores
//! declared references in slots and loads them again at each use, or written by hand with
//! `stack_map=[..]` on its calls. By then nothing that a collector moves may be in a register over a
//! safepoint. The check is of what is in the function, and trusts no declaration.
//!
//! | file | what it finds out |
//! |---|---|
//! | this one | what breaks invariants I1 and I2, and how to say so |
//! | `slots` | what stack slots hold |
//! | `pointers` | which values are references, or computed from one |
//! | `liveness` | what is needed after a safepoint |
//!
//! # What it cannot see
//!
//! A reference that nobody named and that follows from none, such as what a call returns or a load
//! from the heap gives: name it. What is in a stack slot whose address is stored, passed on or indexed.
//! An address that hides in a number: shifted right, reduced, or multiplied. And whether what is declared
//! is the address of an object: what a map names is taken for a reference.

mod liveness;
mod pointers;
mod slots;

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};

use cranelift_codegen::ir::{Block, Function, Inst, InstructionData, StackSlot, Value};
use cranelift_codegen::traversals::Dfs;

use liveness::{Liveness, Place};
use pointers::{Class, Pointers};
use slots::Slots;

/// Something in a function that a moving collector breaks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The value that it is wrong with.
    pub value: Value,
    /// The safepoint; for [`FindingKind::MovableLoad`] the load.
    pub inst: Inst,
    /// Where `inst` is.
    pub block: Block,
    /// `inst` as Cranelift prints it.
    pub text: String,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FindingKind {
    /// The value is a reference, and is used after a safepoint as what it was before (I1).
    Reference,
    /// The value is computed from a reference, and is used after a safepoint (I2).
    Derived,
    /// The value is a reference in a stack slot that is loaded after a safepoint whose map does not
    /// have it (I1).
    Slot {
        /// The slot.
        slot: StackSlot,
        /// Bytes from the slot's start.
        offset: i64,
    },
    /// The value is the address of a load from the heap with the flag `can_move`: Cranelift may move the
    /// load over a safepoint, where the object is no longer there.
    MovableLoad,
}

/// Reports what in `function` a moving collector breaks.
///
/// `references` are the values that hold references. What follows from them is found: copies, block
/// parameters, the results of `select`, loads from slots; so are values that are stored where a stack
/// map says. Constants do not matter, and neither do unreachable blocks.
///
/// Findings are in the order of the code, one for each value, kind and safepoint.
pub fn check(function: &Function, references: impl IntoIterator<Item = Value>) -> Vec<Finding> {
    let order: Vec<Block> = Dfs::new().post_order_iter(function).collect();
    let slots = Slots::new(function, &order);
    let pointers = Pointers::new(function, &order, &slots, references);
    let liveness = Liveness::new(function, &order, &slots, &pointers);
    let reachable: HashSet<Block> = order.iter().copied().collect();
    let mut findings = Vec::new();
    for block in function.layout.blocks().filter(|block| reachable.contains(block)) {
        let mut found = Vec::new();
        liveness.visit_safepoints(block, |safepoint, needed| {
            for &place in needed {
                let faults = faults(function, &slots, &pointers, safepoint, place);
                found.extend(faults.map(|(kind, value)| (safepoint, value, kind)));
            }
        });
        for load in function.layout.block_insts(block) {
            let address = movable_load(function, load).filter(|&value| pointers.is_pointer(value));
            found.extend(address.map(|address| (load, address, FindingKind::MovableLoad)));
        }
        found.sort_by(|&(left, left_value, left_kind), &(right, right_value, right_kind)| {
            let place = function.layout.pp_cmp(left, right);
            place.then((left_value, left_kind).cmp(&(right_value, right_kind)))
        });
        found.dedup();
        findings.extend(found.into_iter().map(|(inst, value, kind)| {
            let text = function.dfg.display_inst(inst).to_string();
            Finding { kind, value, inst, block, text }
        }));
    }
    findings
}

/// What is wrong with `place` being needed after `safepoint`.
fn faults(
    function: &Function,
    slots: &Slots,
    pointers: &Pointers,
    safepoint: Inst,
    place: Place,
) -> impl Iterator<Item = (FindingKind, Value)> {
    let stored = match place {
        Place::Value(value) => vec![(value, FindingKind::Reference)],
        Place::Cell(cell) if slots::map(function, safepoint).any(|mapped| mapped == cell) => vec![],
        Place::Cell(cell) => {
            let kind = FindingKind::Slot { slot: cell.slot, offset: cell.offset };
            let held = slots.held(safepoint).iter().filter(|held| held.cell == cell);
            held.map(|held| (held.value, kind)).collect()
        }
    };
    stored.into_iter().filter_map(|(value, kind)| match pointers.class(value) {
        Class::Reference => Some((kind, value)),
        Class::Derived => Some((FindingKind::Derived, value)),
        Class::Number => None,
    })
}

/// The address of a load that Cranelift may move.
fn movable_load(function: &Function, inst: Inst) -> Option<Value> {
    let data = &function.dfg.insts[inst];
    match *data {
        InstructionData::Load { arg, .. } | InstructionData::LoadNoOffset { arg, .. } => {
            let movable = data.memflags_data(&function.dfg)?.can_move();
            movable.then(|| function.dfg.resolve_aliases(arg))
        }
        _ => None,
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, value, inst, block, text } = self;
        let place = format_args!("`{text}` ({inst}, {block})");
        match kind {
            FindingKind::Reference => write!(
                f,
                "{value} is a reference and is used after {place} without being in its stack map: \
                 declare it, or load it again from where the map says"
            ),
            FindingKind::Derived => write!(
                f,
                "{value} is computed from a reference and is used after {place}, which may move \
                 the object: compute it again from the reference"
            ),
            FindingKind::Slot { slot, offset } => write!(
                f,
                "{value} is a reference in {slot}+{offset}, which is loaded after {place} without \
                 being in its stack map: add the entry"
            ),
            FindingKind::MovableLoad => write!(
                f,
                "{place} reads the heap through {value} and may be moved over a safepoint: leave \
                 out `can_move`"
            ),
        }
    }
}
