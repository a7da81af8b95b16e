//! From a sequence of choices to a program: well-typed and terminating, whatever the choices.
//!
//! The first option is always the simplest, and none goes on for ever: expressions have a depth,
//! functions a number of statements.

mod expr;

use crate::choices::Choices;
use crate::program::{
    Block, CALLED_BACK, Callee, Entry, Expr, Function, FunctionId, Host, Local, NODE, NODE_FIELDS,
    Op, Program, Scalar, Shape, ShapeId, Stmt, Storage, Type,
};

/// How deep an expression is, at the most.
const DEPTH: usize = 3;
/// How deep blocks are nested, at the most.
const NESTING: usize = 3;

/// The most functions.
const FUNCTIONS: usize = 8;
/// The most variables of a function that are declared before its body.
const LOCALS: usize = 20;
/// The most statements of a function, inner ones included.
const STATEMENTS: usize = 20;

/// The program that the choices make.
pub fn generate(choices: &mut Choices) -> Program {
    let fuel = [20, 60, 150, 300][choices.below(4)];
    let shapes = shapes(choices);
    let globals = (0..choices.below(8)).map(|_| choices.below(shapes.len())).collect();
    let (functions, entries) = (Vec::new(), Vec::new());
    let mut program = Program { shapes, globals, functions, entries, fuel };
    signatures(choices, &mut program);
    // Before the bodies: what is left out of one does not change the entries.
    entry_calls(choices, &mut program);
    for function in 0..program.functions.len() {
        let locals = &mut program.functions[function].locals;
        while locals.len() < LOCALS && choices.chance(4, 5) {
            locals.push(local_type(choices, &program.shapes));
        }
        let (locals, statements) = (locals.clone(), STATEMENTS);
        let bound = Vec::new();
        let mut body = Body { choices, program: &program, function, locals, bound, statements };
        let block = body.function();
        let locals = body.locals;
        let function = &mut program.functions[function];
        (function.body, function.locals) = (block, locals);
    }
    program
}

fn shapes(choices: &mut Choices) -> Vec<Shape> {
    let count = 1 + choices.below(7);
    let mut shapes = vec![Shape::Record(NODE_FIELDS.to_vec())];
    for _ in 1..count {
        let shape = match choices.below(6) {
            0..=2 => {
                // Those of more than 24 words are described by a table, not by their headers.
                let of = [3, 8, 40][choices.below(3)];
                let mut fields = Vec::new();
                while fields.len() < 30 && choices.chance(of - 1, of) {
                    fields.push(storage(choices, count));
                }
                Shape::Record(fields)
            }
            3 | 4 => Shape::Array(Storage::Ref(choices.below(count))),
            _ => Shape::Array(Storage::Scalar(choices.one_of(&Scalar::ALL))),
        };
        shapes.push(shape);
    }
    shapes
}

fn storage(choices: &mut Choices, shapes: usize) -> Storage {
    match choices.below(2) {
        0 => Storage::Ref(choices.below(shapes)),
        _ => Storage::Scalar(choices.one_of(&Scalar::ALL)),
    }
}

/// The type of a parameter or a result: not wide, which Cranelift does not pass on every target.
fn passed_type(choices: &mut Choices, shapes: &[Shape]) -> Type {
    match choices.below(12) {
        0..=3 => Type::Int,
        4..=6 => Type::Ref(NODE),
        7..=9 => Type::Ref(choices.below(shapes.len())),
        10 => Type::Float,
        _ => Type::Vector,
    }
}

fn local_type(choices: &mut Choices, shapes: &[Shape]) -> Type {
    match choices.below(10) {
        9 => Type::Wide,
        _ => passed_type(choices, shapes),
    }
}

/// Few lists of results, so that there are functions with the same, to be called in each other's
/// place.
fn signatures(choices: &mut Choices, program: &mut Program) {
    let some = |choices: &mut Choices, most| -> Vec<Type> {
        (0..choices.below(most)).map(|_| passed_type(choices, &program.shapes)).collect()
    };
    let results = [vec![Type::Ref(NODE)], some(choices, 3), some(choices, 7)];
    let params = [vec![Type::Ref(NODE)], some(choices, 5), some(choices, 14)];
    let count = 1 + choices.below(FUNCTIONS);
    let mut functions = Vec::new();
    // Also those that there are not, so that fewer functions leave the rest as it is.
    for function in 0..FUNCTIONS {
        let (results, own) = (&results[choices.below(3)], &params[choices.below(3)]);
        let (results, own) = match function {
            CALLED_BACK => (vec![Type::Ref(NODE)], vec![Type::Ref(NODE)]),
            _ => (results.clone(), own.clone()),
        };
        let params: Vec<Type> = std::iter::once(Type::Int).chain(own).collect();
        functions.push(Function { locals: params.clone(), params, results, body: Vec::new() });
    }
    functions.truncate(count);
    program.functions = functions;
}

fn entry_calls(choices: &mut Choices, program: &mut Program) {
    let functions = 0..program.functions.len();
    let crossing: Vec<FunctionId> =
        functions.filter(|&function| program.functions[function].crosses()).collect();
    for _ in 0..1 + choices.below(4) {
        let function = crossing[choices.below(crossing.len())];
        let params = &program.functions[function].params;
        let mut numbers: Vec<i64> = params.iter().map(|_| choices.below(100) as i64).collect();
        numbers[0] = [2, 4, 8, 40][choices.below(4)];
        program.entries.push(Entry { function, numbers });
    }
}

/// The body of a function in the making.
struct Body<'a> {
    choices: &'a mut Choices,
    program: &'a Program,
    function: FunctionId,
    locals: Vec<Type>,
    /// The types of what is bound around what is made now.
    bound: Vec<Type>,
    /// How many may still be made.
    statements: usize,
}

impl Body<'_> {
    fn function(&mut self) -> Block {
        let mut block = self.block(NESTING);
        if !block.last().is_some_and(ends) {
            block.push(self.give_back());
        }
        block
    }

    fn block(&mut self, nesting: usize) -> Block {
        let mut block = Block::new();
        // Each statement is a choice of its own: it can be left out without changing the next.
        let of = if nesting == NESTING { 8 } else { 3 };
        while self.statements > 0
            && !block.last().is_some_and(ends)
            && self.choices.chance(of - 1, of)
        {
            self.statements -= 1;
            let statement = self.statement(nesting);
            block.push(statement);
        }
        block
    }

    fn statement(&mut self, nesting: usize) -> Stmt {
        match self.choices.below(if nesting > 0 { 38 } else { 24 }) {
            0..=4 => self.set(),
            5 => Stmt::Observe(self.observation()),
            6..=9 => self.set_global(),
            10..=12 => self.set_field(),
            13..=14 => self.set_element(),
            15..=18 => self.call(),
            19..=20 => Stmt::Collect,
            21 => self.set_element(),
            22..=23 => self.leave(nesting),
            24..=27 => {
                let condition = self.condition();
                let (yes, no) = (self.block(nesting - 1), self.block(nesting - 1));
                Stmt::If(condition, yes, no)
            }
            28..=30 => self.counting_loop(nesting),
            31 => {
                let condition = self.condition();
                let body = self.block(nesting - 1);
                Stmt::While(condition, body)
            }
            32..=35 => self.let_in(nesting),
            _ => self.try_call(nesting),
        }
    }

    fn set(&mut self) -> Stmt {
        // The depth stays what it is.
        if self.locals.len() == 1 {
            return Stmt::Observe(self.observation());
        }
        let local = 1 + self.choices.below(self.locals.len() - 1);
        Stmt::Set(local, self.expr(self.locals[local], DEPTH))
    }

    fn set_global(&mut self) -> Stmt {
        if self.program.globals.is_empty() {
            return self.set();
        }
        let global = self.choices.below(self.program.globals.len());
        Stmt::SetGlobal(global, self.expr(Type::Ref(self.program.globals[global]), DEPTH))
    }

    fn set_field(&mut self) -> Stmt {
        let shape = self.choices.below(self.program.shapes.len());
        if !self.program.is_record(shape) || self.program.fields(shape).is_empty() {
            return self.set();
        }
        let fields = self.program.fields(shape);
        let field = self.choices.below(fields.len());
        let object = self.object(shape, 2);
        Stmt::SetField(shape, field, object, self.expr(fields[field].ty(), 2))
    }

    fn set_element(&mut self) -> Stmt {
        let Some(shape) = self.array_of(|_| true) else { return self.set_field() };
        let (array, index) = self.array_and_index(shape, 2);
        let value = match self.program.element(shape) {
            // A new array has enough nulls.
            Storage::Ref(element) => self.object(element, 1),
            Storage::Scalar(scalar) => self.expr(scalar.ty(), 2),
        };
        Stmt::SetElement(shape, array, index, value)
    }

    fn call(&mut self) -> Stmt {
        let (callee, arguments) = self.any_call(DEPTH);
        let results = self.variables(self.program.signature(&callee).1.to_vec());
        Stmt::Call(results, callee, arguments)
    }

    fn try_call(&mut self, nesting: usize) -> Stmt {
        let (callee, arguments) = self.any_call(2);
        let results = self.program.signature(&callee).1.to_vec();
        let returned = self.bind(results, nesting);
        let caught = self.bind(vec![Type::Ref(NODE)], nesting);
        Stmt::TryCall(callee, arguments, returned, caught)
    }

    fn let_in(&mut self, nesting: usize) -> Stmt {
        let ty = match self.choices.below(4) {
            0..=2 => Type::Ref(self.choices.below(self.program.shapes.len())),
            _ => local_type(self.choices, &self.program.shapes),
        };
        let value = self.expr(ty, DEPTH);
        Stmt::Let(value, self.bind(vec![ty], nesting))
    }

    /// A block with values of these types bound.
    fn bind(&mut self, types: Vec<Type>, nesting: usize) -> Block {
        let around = self.bound.len();
        self.bound.extend(types);
        let block = self.block(nesting - 1);
        self.bound.truncate(around);
        block
    }

    fn counting_loop(&mut self, nesting: usize) -> Stmt {
        let index = self.new_variable(Type::Int);
        let count = match self.choices.below(4) {
            0 => self.expr(Type::Int, 1),
            _ => Expr::Const(1 + self.choices.below(7) as i64),
        };
        let body = self.block(nesting - 1);
        Stmt::Loop(index, count, body)
    }

    /// What ends a block. Seldom outside of inner blocks: there it ends the function.
    fn leave(&mut self, nesting: usize) -> Stmt {
        if nesting == NESTING && self.choices.chance(7, 8) {
            return self.set();
        }
        match self.choices.below(4) {
            0 | 1 => self.give_back(),
            2 => Stmt::Throw(self.object(NODE, 2)),
            _ => self.tail_call().unwrap_or_else(|| self.give_back()),
        }
    }

    fn give_back(&mut self) -> Stmt {
        if self.choices.chance(1, 5)
            && let Some(call) = self.tail_call()
        {
            return call;
        }
        let results = self.program.functions[self.function].results.clone();
        Stmt::Return(results.into_iter().map(|ty| self.expr(ty, DEPTH)).collect())
    }

    fn tail_call(&mut self) -> Option<Stmt> {
        let results = &self.program.functions[self.function].results;
        let same = |callee: &Callee| self.program.signature(callee).1 == *results;
        let callees: Vec<Callee> = self.callees().into_iter().filter(same).collect();
        if callees.is_empty() {
            return None;
        }
        let (callee, arguments) = self.call_one_of(&callees, 2);
        Some(Stmt::TailCall(callee, arguments))
    }

    /// Variables for results: old ones and, where there is none of the type, new ones.
    fn variables(&mut self, types: Vec<Type>) -> Vec<Local> {
        types.into_iter().map(|ty| self.variable(ty)).collect()
    }

    fn variable(&mut self, ty: Type) -> Local {
        let fitting = self.locals_of(ty);
        let assignable: Vec<Local> = fitting.into_iter().filter(|&local| local > 0).collect();
        if assignable.is_empty() {
            return self.new_variable(ty);
        }
        self.choices.one_of(&assignable)
    }

    fn new_variable(&mut self, ty: Type) -> Local {
        self.locals.push(ty);
        self.locals.len() - 1
    }

    fn locals_of(&self, ty: Type) -> Vec<Local> {
        (0..self.locals.len()).filter(|&local| self.locals[local] == ty).collect()
    }

    /// Variables of a type, and what is bound.
    fn leaves_of(&self, ty: Type) -> Vec<Expr> {
        let bound = (0..self.bound.len()).filter(|&index| self.bound[index] == ty);
        self.locals_of(ty).into_iter().map(Expr::Local).chain(bound.map(Expr::Bound)).collect()
    }

    fn callees(&self) -> Vec<Callee> {
        let functions = (0..self.program.functions.len()).map(Callee::Direct);
        functions.chain(Host::ALL.map(Callee::Host)).collect()
    }

    fn any_call(&mut self, depth: usize) -> (Callee, Vec<Expr>) {
        let callees = self.callees();
        self.call_one_of(&callees, depth)
    }

    /// A call, its arguments, and perhaps a choice between two functions of one signature.
    fn call_one_of(&mut self, callees: &[Callee], depth: usize) -> (Callee, Vec<Expr>) {
        let functions = callees.iter().filter(|callee| !matches!(callee, Callee::Host(_))).count();
        // Functions come first.
        let of = if functions > 0 && self.choices.below(4) < 3 { functions } else { callees.len() };
        let mut callee = callees[self.choices.below(of)].clone();
        let params = self.program.signature(&callee).0.to_vec();
        if let Callee::Direct(first) = callee
            && self.choices.chance(1, 4)
        {
            let all = &self.program.functions;
            let alike: Vec<FunctionId> = (0..all.len())
                .filter(|&other| {
                    all[other].params == all[first].params
                        && all[other].results == all[first].results
                })
                .collect();
            let second = self.choices.one_of(&alike);
            callee = Callee::Indirect(Box::new(self.expr(Type::Int, 1)), first, second);
        }
        let takes_depth = !matches!(callee, Callee::Host(host) if host != Host::CallBack);
        let mut arguments = Vec::new();
        for (index, ty) in params.into_iter().enumerate() {
            arguments.push(if index == 0 && takes_depth {
                let less = Expr::Const(1 + self.choices.below(2) as i64);
                Expr::Binary(Op::Subtract, Box::new(Expr::Local(0)), Box::new(less))
            } else {
                self.expr(ty, depth.saturating_sub(1))
            });
        }
        (callee, arguments)
    }
}

/// Whether a statement ends its block.
fn ends(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Return(_) | Stmt::Throw(_) | Stmt::TailCall(..))
}
