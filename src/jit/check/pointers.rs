//! Which values are references, and which are computed from one: what follows from the values that
//! the caller named and from the stack maps.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{
    Block, BlockArg, Function, Inst, InstructionData, Opcode, Value, ValueDef,
};

use super::slots::{self, Access, Slots, constant};

/// Bits of an address that a mask can keep so that the rest still tells where the object is. Tags are
/// below or above them.
const ADDRESS_BITS: i64 = 0x0000_ffff_ffff_0000;

/// What a value has to do with addresses of objects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) enum Class {
    /// Nothing: whatever moves does not change it. Constants too.
    #[default]
    Number,
    /// It is computed from a reference, and wrong when the object has moved.
    Derived,
    /// It is one.
    Reference,
}

/// The class of each value of a function.
pub(super) struct Pointers<'a> {
    function: &'a Function,
    slots: &'a Slots,
    classes: SecondaryMap<Value, Class>,
    changed: bool,
}

impl<'a> Pointers<'a> {
    /// `order` is the reachable blocks in post-order.
    pub fn new(
        function: &'a Function,
        order: &[Block],
        slots: &'a Slots,
        references: impl IntoIterator<Item = Value>,
    ) -> Self {
        let mut pointers = Self { function, slots, classes: SecondaryMap::new(), changed: true };
        for value in references {
            pointers.raise(value, Class::Reference);
        }
        // Classes only rise. Backwards through the post-order, operands come before what is computed
        // from them, except around loops.
        while std::mem::take(&mut pointers.changed) {
            for &block in order.iter().rev() {
                for inst in function.layout.block_insts(block) {
                    pointers.visit(inst);
                }
            }
        }
        pointers
    }

    pub fn class(&self, value: Value) -> Class {
        self.classes[self.function.dfg.resolve_aliases(value)]
    }

    pub fn is_pointer(&self, value: Value) -> bool {
        self.class(value) != Class::Number
    }

    fn raise(&mut self, value: Value, class: Class) {
        let value = self.function.dfg.resolve_aliases(value);
        if class > self.classes[value] && constant(self.function, value).is_none() {
            self.classes[value] = class;
            self.changed = true;
        }
    }

    fn visit(&mut self, inst: Inst) {
        let (function, slots) = (self.function, self.slots);
        let dfg = &function.dfg;
        // What a map names is a reference, whoever stored it.
        for cell in slots::map(function, inst) {
            for held in slots.held(inst).iter().filter(|held| held.cell == cell) {
                self.raise(held.value, Class::Reference);
            }
        }
        let data = &dfg.insts[inst];
        for edge in data.branch_destination(&dfg.jump_tables, &dfg.exception_tables) {
            let params = dfg.block_params(edge.block(&dfg.value_lists));
            for (&param, arg) in params.iter().zip(edge.args(&dfg.value_lists)) {
                if let BlockArg::Value(arg) = arg {
                    self.raise(param, self.class(arg));
                }
            }
        }
        if let &[result] = dfg.inst_results(inst) {
            let class = match slots::access(function, inst) {
                Some(Access::Load(cell)) => self.loaded(inst, cell),
                _ => self.computed(inst),
            };
            self.raise(result, class);
        }
    }

    fn loaded(&self, load: Inst, cell: slots::Cell) -> Class {
        if self.slots.is_shared(cell.slot) && self.slots.is_mapped(cell) {
            return Class::Reference;
        }
        let held = self.slots.held(load).iter().filter(|held| held.cell == cell);
        held.map(|held| self.class(held.value)).max().unwrap_or_default()
    }

    /// The class of the only result of an instruction.
    fn computed(&self, inst: Inst) -> Class {
        let args = self.function.dfg.inst_args(inst);
        let derived = |is: bool| if is { Class::Derived } else { Class::Number };
        let pointers = args.iter().filter(|&&arg| self.is_pointer(arg)).count();
        match self.function.dfg.insts[inst].opcode() {
            // The same, or one or the other.
            Opcode::Bitcast | Opcode::Umin | Opcode::Umax | Opcode::Smin | Opcode::Smax => {
                args.iter().map(|&arg| self.class(arg)).max().unwrap_or_default()
            }
            Opcode::Select | Opcode::SelectSpectreGuard | Opcode::Bitselect => {
                self.class(args[1]).max(self.class(args[2]))
            }
            // The difference of two addresses is none.
            Opcode::Isub | Opcode::Bxor => derived(pointers == 1),
            Opcode::Band => derived(pointers > 0 && !args.iter().any(|&arg| self.is_tag_mask(arg))),
            Opcode::Ishl if self.is_pointer(args[0]) => Class::Derived,
            // Elsewhere than in the next pattern, a right shift takes a number out of its tag.
            Opcode::Ishl | Opcode::Ushr | Opcode::Sshr => derived(self.strips_by_shifting(inst)),
            Opcode::Iadd
            | Opcode::UaddOverflowTrap
            | Opcode::Bor
            | Opcode::Uextend
            | Opcode::Sextend
            | Opcode::Iconcat
            | Opcode::Splat
            | Opcode::Insertlane
            | Opcode::ScalarToVector => derived(pointers > 0),
            _ => Class::Number,
        }
    }

    fn is_tag_mask(&self, value: Value) -> bool {
        constant(self.function, value).is_some_and(|mask| mask & ADDRESS_BITS == 0)
    }

    /// Whether a shift undoes another of a pointer: what is left is the address without its tag.
    fn strips_by_shifting(&self, inst: Inst) -> bool {
        let dfg = &self.function.dfg;
        let InstructionData::Binary { opcode, args: [shifted, amount] } = dfg.insts[inst] else {
            return false;
        };
        let ValueDef::Result(first, _) = dfg.value_def(shifted) else { return false };
        let InstructionData::Binary { opcode: first, args: [value, first_amount] } =
            dfg.insts[first]
        else {
            return false;
        };
        let back = match opcode {
            Opcode::Ishl => matches!(first, Opcode::Ushr | Opcode::Sshr),
            _ => first == Opcode::Ishl,
        };
        let amount = constant(self.function, amount);
        back && amount.is_some()
            && amount == constant(self.function, first_amount)
            && self.is_pointer(value)
    }
}
