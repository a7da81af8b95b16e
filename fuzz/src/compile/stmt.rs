//! Statements. Each says whether it ended the block: nothing may follow then.

use std::cell::Cell;

use tospace::cranelift_codegen::ir::{InstBuilder, condcodes::IntCC, types::I64};
use tospace::jit::{Arg, Emit};

use super::Code;
use crate::program::{Block, Expr, Local, Stmt};

impl Code<'_> {
    pub(super) fn block(&self, e: &mut Emit, block: &Block) -> bool {
        block.iter().any(|statement| self.statement(e, statement))
    }

    fn statement(&self, e: &mut Emit, statement: &Stmt) -> bool {
        match statement {
            Stmt::Set(local, value) => {
                let value = self.expr(e, value);
                self.set(e, *local, value);
            }
            Stmt::Let(value, block) => {
                let value = self.expr(e, value);
                return self.bind(e, &[value], block);
            }
            Stmt::SetGlobal(global, value) => {
                let value = self.reference(e, value);
                e.store_global(self.symbols.globals[*global], value);
            }
            Stmt::SetField(shape, field, object, value) => {
                let (object, value) = (self.reference(e, object), self.expr(e, value));
                self.store_field(e, (*shape, *field), object, value);
            }
            Stmt::SetElement(shape, array, index, value) => {
                let (array, index) = (self.reference(e, array), self.int(e, index));
                let value = self.expr(e, value);
                self.store_element(e, *shape, (array, index), value);
            }
            Stmt::Observe(value) => {
                let value = self.int(e, value);
                self.observe(e, value);
            }
            Stmt::If(condition, yes, no) => return self.branch(e, condition, yes, no),
            Stmt::Loop(index, count, body) => self.counting_loop(e, *index, count, body),
            Stmt::While(condition, body) => self.while_loop(e, condition, body),
            Stmt::Call(to, callee, arguments) => {
                let callee = self.callee(e, callee);
                let arguments = self.all(e, arguments);
                let results = e.call(callee, &arguments);
                self.assign(e, to, &results);
            }
            Stmt::TryCall(..) => return self.try_call(e, statement),
            Stmt::Collect => e.collect(),
            Stmt::Throw(node) => {
                let node = self.reference(e, node);
                e.throw(node);
                return true;
            }
            Stmt::Return(results) => {
                let results = self.all(e, results);
                e.ret(&results);
                return true;
            }
            Stmt::TailCall(callee, arguments) => {
                let callee = self.callee(e, callee);
                let arguments = self.all(e, arguments);
                e.tail_call(callee, &arguments);
                return true;
            }
        }
        false
    }

    /// Emits a block with values bound.
    fn bind(&self, e: &mut Emit, values: &[Arg], block: &Block) -> bool {
        let around = self.bound.borrow().len();
        self.bound.borrow_mut().extend(values);
        let ended = self.block(e, block);
        self.bound.borrow_mut().truncate(around);
        ended
    }

    fn assign(&self, e: &mut Emit, to: &[Local], results: &[Arg]) {
        to.iter().zip(results).for_each(|(&local, &result)| self.set(e, local, result));
    }

    fn branch(&self, e: &mut Emit, condition: &Expr, yes: &Block, no: &Block) -> bool {
        let condition = self.int(e, condition);
        let goes_on = Cell::new(false);
        let arm = |e: &mut Emit, block| {
            let ended = self.block(e, block);
            goes_on.set(goes_on.get() | !ended);
        };
        e.if_else(condition, |e| arm(e, yes), |e| arm(e, no));
        !goes_on.get()
    }

    fn counting_loop(&self, e: &mut Emit, local: Local, count: &Expr, body: &Block) {
        let count = self.int(e, count);
        let count = e.ins().band_imm_s(count, 7);
        let zero = e.int(I64, 0);
        let turn = e.var(zero);
        let goes_on = |e: &mut Emit| {
            let turn = e.get(turn);
            let turns_left = e.ins().icmp(IntCC::SignedLessThan, turn, count);
            let fuel_left = self.fuel_left(e);
            e.ins().band(turns_left, fuel_left)
        };
        e.while_loop(goes_on, |e| {
            self.burn(e);
            let now = e.get(turn);
            self.set(e, local, now.into());
            if !self.block(e, body) {
                let next = e.ins().iadd_imm_s(now, 1);
                e.set(turn, next);
            }
        });
    }

    fn while_loop(&self, e: &mut Emit, condition: &Expr, body: &Block) {
        let goes_on = |e: &mut Emit| {
            let condition = self.int(e, condition);
            let holds = e.ins().icmp_imm_s(IntCC::NotEqual, condition, 0);
            let fuel_left = self.fuel_left(e);
            e.ins().band(holds, fuel_left)
        };
        e.while_loop(goes_on, |e| {
            self.burn(e);
            self.block(e, body);
        });
    }

    fn try_call(&self, e: &mut Emit, statement: &Stmt) -> bool {
        let Stmt::TryCall(callee, arguments, returned, caught) = statement else {
            unreachable!("a try_call")
        };
        let callee = self.callee(e, callee);
        let arguments = self.all(e, arguments);
        let goes_on = Cell::new(false);
        let arm = |e: &mut Emit, values: &[Arg], block| {
            let ended = self.bind(e, values, block);
            goes_on.set(goes_on.get() | !ended);
        };
        e.try_call(
            callee,
            &arguments,
            |e, results| arm(e, &results, returned),
            |e, node| arm(e, &[node.into()], caught),
        );
        !goes_on.get()
    }
}
