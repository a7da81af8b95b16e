//! What stack slots hold: which stores reach which loads and safepoints.

use std::collections::{BTreeSet, HashMap};

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{
    Block, Function, Inst, InstructionData, Opcode, StackSlot, Value, ValueDef,
};

/// How many constants are added to a slot's address at most. After more, it goes elsewhere.
const LONGEST_SUM: usize = 8;

/// A piece of a stack slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Cell {
    pub slot: StackSlot,
    /// Bytes from the slot's start.
    pub offset: i64,
    bytes: u32,
}

impl Cell {
    fn end(self) -> i64 {
        self.offset.saturating_add(self.bytes.into())
    }

    /// Whether a store here leaves nothing of `other`.
    pub fn covers(self, other: Self) -> bool {
        self.slot == other.slot && self.offset <= other.offset && other.end() <= self.end()
    }

    fn overlaps(self, other: Self) -> bool {
        self.slot == other.slot && self.offset < other.end() && other.offset < self.end()
    }
}

/// A value in a stack slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Held {
    pub cell: Cell,
    pub value: Value,
}

/// An instruction that reads or writes a slot, at an offset that is a constant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Load(Cell),
    Store(Held),
}

/// What the slots of a function hold.
pub(super) struct Slots {
    /// Slots whose address goes elsewhere: others may read and write them.
    shared: BTreeSet<StackSlot>,
    /// What the maps of the function name.
    mapped: BTreeSet<Cell>,
    /// For each load what it may read from, for each safepoint everything.
    held: HashMap<Inst, Vec<Held>>,
}

impl Slots {
    /// `order` is the reachable blocks in post-order.
    pub fn new(function: &Function, order: &[Block]) -> Self {
        let insts = || order.iter().flat_map(|&block| function.layout.block_insts(block));
        Self {
            shared: insts().flat_map(|inst| shared_by(function, inst)).collect(),
            mapped: insts().flat_map(|inst| map(function, inst)).collect(),
            held: reaching_stores(function, order),
        }
    }

    /// What a load may read from: values that were stored in pieces that overlap what it loads. What
    /// the slots hold at a safepoint.
    pub fn held(&self, inst: Inst) -> &[Held] {
        self.held.get(&inst).map_or(&[], Vec::as_slice)
    }

    pub fn is_shared(&self, slot: StackSlot) -> bool {
        self.shared.contains(&slot)
    }

    pub fn is_mapped(&self, cell: Cell) -> bool {
        self.mapped.contains(&cell)
    }
}

/// What an instruction's stack map names.
pub(super) fn map(function: &Function, inst: Inst) -> impl Iterator<Item = Cell> {
    let entries = function.dfg.user_stack_map_entries(inst).unwrap_or_default();
    entries.iter().map(|entry| Cell {
        slot: entry.slot,
        offset: i64::from(entry.offset),
        bytes: entry.ty.bytes(),
    })
}

/// How `inst` accesses a slot, if it does.
pub(super) fn access(function: &Function, inst: Inst) -> Option<Access> {
    let dfg = &function.dfg;
    let (address, offset, stored) = match dfg.insts[inst] {
        InstructionData::Load { arg, offset, .. } => (arg, offset.into(), None),
        InstructionData::LoadNoOffset { arg, .. } => (arg, 0, None),
        InstructionData::Store { args: [value, address], offset, .. } => {
            (address, offset.into(), Some(value))
        }
        InstructionData::StoreNoOffset { args: [value, address], .. } => (address, 0, Some(value)),
        _ => return None,
    };
    let (slot, start) = slot_address(function, address)?;
    let moved = stored.unwrap_or_else(|| dfg.first_result(inst));
    let bytes =
        narrow_bytes(dfg.insts[inst].opcode()).unwrap_or_else(|| dfg.value_type(moved).bytes());
    let cell = Cell { slot, offset: start.checked_add(offset)?, bytes };
    Some(match stored {
        Some(value) => Access::Store(Held { cell, value: dfg.resolve_aliases(value) }),
        None => Access::Load(cell),
    })
}

/// How much memory an instruction accesses that widens or narrows what it moves.
fn narrow_bytes(opcode: Opcode) -> Option<u32> {
    match opcode {
        Opcode::Uload8 | Opcode::Sload8 | Opcode::Istore8 => Some(1),
        Opcode::Uload16 | Opcode::Sload16 | Opcode::Istore16 => Some(2),
        Opcode::Uload32 | Opcode::Sload32 | Opcode::Istore32 => Some(4),
        Opcode::Uload8x8 | Opcode::Sload8x8 | Opcode::Uload16x4 => Some(8),
        Opcode::Sload16x4 | Opcode::Uload32x2 | Opcode::Sload32x2 => Some(8),
        _ => None,
    }
}

/// The constant that a value is.
pub(super) fn constant(function: &Function, value: Value) -> Option<i64> {
    let ValueDef::Result(inst, _) = function.dfg.value_def(value) else { return None };
    match function.dfg.insts[inst] {
        InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits()),
        _ => None,
    }
}

/// The slot whose address a value is, and the offset from its start.
fn slot_address(function: &Function, mut value: Value) -> Option<(StackSlot, i64)> {
    let mut distance: i64 = 0;
    // Some end, for the sake of code that Cranelift's verifier has not seen yet.
    for _ in 0..LONGEST_SUM {
        let ValueDef::Result(inst, _) = function.dfg.value_def(value) else { return None };
        let offset = match function.dfg.insts[inst] {
            InstructionData::StackAddr { stack_slot, offset, .. } => {
                return Some((stack_slot, distance.checked_add(offset.into())?));
            }
            InstructionData::Binary { opcode: Opcode::Iadd, args: [left, right] } => {
                let offset = constant(function, right);
                value = if offset.is_some() { left } else { right };
                offset.or_else(|| constant(function, left))?
            }
            _ => return None,
        };
        distance = distance.checked_add(offset)?;
    }
    None
}

/// The slots whose address `inst` uses for anything but an access or another address in them.
fn shared_by(function: &Function, inst: Inst) -> Vec<StackSlot> {
    let dfg = &function.dfg;
    let extends = || {
        let result = dfg.inst_results(inst).first();
        result.is_some_and(|&result| slot_address(function, result).is_some())
    };
    let slot = |value| Some(slot_address(function, value)?.0);
    match access(function, inst) {
        Some(Access::Load(_)) => vec![],
        Some(Access::Store(held)) => slot(held.value).into_iter().collect(),
        None if extends() => vec![],
        None => dfg.inst_values(inst).filter_map(slot).collect(),
    }
}

/// A forward analysis: a store reaches whatever follows, until another covers it.
fn reaching_stores(function: &Function, order: &[Block]) -> HashMap<Inst, Vec<Held>> {
    let mut at_top: SecondaryMap<Block, BTreeSet<Held>> = SecondaryMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for &block in order.iter().rev() {
            let held = through(function, block, at_top[block].clone(), |_, _, _| {});
            for successor in function.block_successors(block) {
                let before = at_top[successor].len();
                at_top[successor].extend(held.iter().copied());
                changed |= at_top[successor].len() != before;
            }
        }
    }
    let mut reached = HashMap::new();
    for &block in order {
        through(function, block, at_top[block].clone(), |inst, access, held| match access {
            Some(Access::Load(cell)) => {
                let read = held.iter().filter(|held| held.cell.overlaps(cell));
                reached.insert(inst, read.copied().collect());
            }
            None if function.dfg.insts[inst].opcode().is_safepoint() => {
                reached.insert(inst, held.iter().copied().collect());
            }
            _ => {}
        });
    }
    reached
}

/// What slots hold at the end of a block that begins with `held`. `visit` gets each instruction, with
/// what they hold before it.
fn through(
    function: &Function,
    block: Block,
    mut held: BTreeSet<Held>,
    mut visit: impl FnMut(Inst, Option<Access>, &BTreeSet<Held>),
) -> BTreeSet<Held> {
    for inst in function.layout.block_insts(block) {
        let access = access(function, inst);
        visit(inst, access, &held);
        if let Some(Access::Store(store)) = access {
            held.retain(|held| !store.cell.covers(held.cell));
            held.insert(store);
        }
    }
    held
}
