//! Branches and loops. Blocks are sealed as soon as all their predecessors are known.

use cranelift_codegen::ir::{Block, InstBuilder, Value, condcodes::IntCC};

use super::Emit;

impl Emit<'_> {
    /// Emits `then` for when `condition` is not 0.
    pub fn if_then(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        self.if_else(condition, then, |_| {});
    }

    /// Emits `then` for when `condition` is not 0, and `otherwise` for when it is.
    pub fn if_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self),
        otherwise: impl FnOnce(&mut Self),
    ) {
        let (yes, no, join) = (self.block(), self.block(), self.block());
        self.builder.ins().brif(condition, yes, &[], no, &[]);
        let mut joined = self.arm(yes, join, then);
        joined |= self.arm(no, join, otherwise);
        if joined {
            self.enter(join);
        }
    }

    /// Emits a loop that runs `body` as long as `condition` is not 0.
    pub fn while_loop(
        &mut self,
        condition: impl FnOnce(&mut Self) -> Value,
        body: impl FnOnce(&mut Self),
    ) {
        let (header, inside, after) = (self.block(), self.block(), self.block());
        self.builder.ins().jump(header, &[]);
        self.builder.switch_to_block(header);
        let condition = condition(self);
        self.builder.ins().brif(condition, inside, &[], after, &[]);
        self.arm(inside, header, body);
        self.builder.seal_block(header);
        self.enter(after);
    }

    /// Emits a loop that runs `body` with each number from `first` up to, not including, `end`.
    pub fn for_range(&mut self, first: Value, end: Value, body: impl FnOnce(&mut Self, Value)) {
        self.for_range_step(first, end, 1, body);
    }

    /// [`Emit::for_range`] in steps of `step`, which is positive. All numbers are signed.
    pub fn for_range_step(
        &mut self,
        first: Value,
        end: Value,
        step: i64,
        body: impl FnOnce(&mut Self, Value),
    ) {
        assert!(step > 0, "a range goes up, not by {step}");
        let index = self.var(first);
        self.while_loop(
            |e| {
                let index = e.get(index);
                e.ins().icmp(IntCC::SignedLessThan, index, end)
            },
            |e| {
                let now = e.get(index);
                body(e, now);
                let next = e.ins().iadd_imm_s(now, step);
                e.set(index, next);
            },
        );
    }

    /// Emits `body` into `block`, which then goes on to `join` unless it has ended. Whether it does.
    pub(super) fn arm(&mut self, block: Block, join: Block, body: impl FnOnce(&mut Self)) -> bool {
        self.enter(block);
        body(self);
        let joins = !self.is_filled();
        if joins {
            self.builder.ins().jump(join, &[]);
        }
        joins
    }

    pub(super) fn block(&mut self) -> Block {
        self.builder.create_block()
    }

    /// Goes on in `block`, all of whose predecessors have been emitted.
    pub(super) fn enter(&mut self, block: Block) {
        self.builder.seal_block(block);
        self.builder.switch_to_block(block);
    }

    /// Whether the current block has ended: by a return, or because both arms of a branch did.
    pub(super) fn is_filled(&self) -> bool {
        let function = &self.builder.func;
        let last = self.builder.current_block().and_then(|block| function.layout.last_inst(block));
        last.is_some_and(|inst| function.dfg.insts[inst].opcode().is_terminator())
    }
}
