//! What is needed after each safepoint: a backward analysis of pointers and of what slots hold.

use std::collections::BTreeSet;

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExceptionTableItem, Function, Inst, Value,
};

use super::pointers::Pointers;
use super::slots::{self, Access, Cell, Slots};

/// Where something is that is needed later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    /// In a register, or wherever Cranelift keeps it. A pointer: nothing else is looked at.
    Value(Value),
    /// In a stack slot whose address goes nowhere.
    Cell(Cell),
}

/// What is needed in each block.
pub(super) struct Liveness<'a> {
    function: &'a Function,
    slots: &'a Slots,
    pointers: &'a Pointers<'a>,
    /// At the top of each block, its parameters among it.
    at_top: SecondaryMap<Block, BTreeSet<Place>>,
}

impl<'a> Liveness<'a> {
    /// `order` is the reachable blocks in post-order.
    pub fn new(
        function: &'a Function,
        order: &[Block],
        slots: &'a Slots,
        pointers: &'a Pointers,
    ) -> Self {
        let mut liveness = Self { function, slots, pointers, at_top: SecondaryMap::new() };
        let mut changed = true;
        while changed {
            changed = false;
            for &block in order {
                let needed = liveness.visit_safepoints(block, |_, _| {});
                changed |= needed.len() != liveness.at_top[block].len();
                liveness.at_top[block] = needed;
            }
        }
        liveness
    }

    /// Goes through a block from its end, and gives each safepoint what is needed after it. What is
    /// needed at the block's top.
    pub fn visit_safepoints(
        &self,
        block: Block,
        mut visit: impl FnMut(Inst, &BTreeSet<Place>),
    ) -> BTreeSet<Place> {
        let dfg = &self.function.dfg;
        let mut needed = BTreeSet::new();
        for inst in self.function.layout.block_insts(block).rev() {
            // Arguments of edges are used after the instruction, a call perhaps, those of the
            // instruction before.
            let data = &dfg.insts[inst];
            for edge in data.branch_destination(&dfg.jump_tables, &dfg.exception_tables) {
                self.add_edge(*edge, &mut needed);
            }
            for &result in dfg.inst_results(inst) {
                needed.remove(&Place::Value(result));
            }
            if let Some(table) = data.exception_table() {
                // Whoever looks for a handler reads these while the call is under way.
                for item in dfg.exception_tables[table].items() {
                    if let ExceptionTableItem::Context(value) = item {
                        self.add_value(value, &mut needed);
                    }
                }
            }
            if data.opcode().is_safepoint() {
                visit(inst, &needed);
            }
            for &arg in dfg.inst_args(inst) {
                self.add_value(arg, &mut needed);
            }
            match slots::access(self.function, inst) {
                Some(Access::Load(cell)) if !self.slots.is_shared(cell.slot) => {
                    needed.extend(self.slots.held(inst).iter().map(|held| Place::Cell(held.cell)));
                }
                Some(Access::Store(store)) => needed.retain(
                    |place| !matches!(*place, Place::Cell(cell) if store.cell.covers(cell)),
                ),
                _ => {}
            }
        }
        needed
    }

    /// Adds what is needed at the far end of an edge. A parameter there is an argument here.
    fn add_edge(&self, edge: BlockCall, needed: &mut BTreeSet<Place>) {
        let dfg = &self.function.dfg;
        let target = edge.block(&dfg.value_lists);
        let mut places = self.at_top[target].clone();
        for (&param, arg) in dfg.block_params(target).iter().zip(edge.args(&dfg.value_lists)) {
            let used = places.remove(&Place::Value(param));
            if let (true, BlockArg::Value(arg)) = (used, arg) {
                self.add_value(arg, needed);
            }
        }
        needed.append(&mut places);
    }

    fn add_value(&self, value: Value, needed: &mut BTreeSet<Place>) {
        if self.pointers.is_pointer(value) {
            needed.insert(Place::Value(self.function.dfg.resolve_aliases(value)));
        }
    }
}
