//! The oracle: runs a program on the model, and says what compiled code has to do.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::{Model, Object, Value};
use crate::program::{
    Block, CALLED_BACK, Callee, Expr, FunctionId, Host, LENGTHS, Local, NODE, Op, Program, ShapeId,
    Stmt, Type,
};

/// What a program has to do.
#[derive(Debug)]
pub struct Expected {
    /// For each entry.
    pub entries: Vec<EntryOutcome>,
    /// The heap at the end.
    pub model: Model,
    /// The globals at the end.
    pub globals: Vec<Value>,
    /// The references that the host has kept, with their shapes.
    pub kept: Vec<(ShapeId, Value)>,
    /// How many objects compiled code allocated; the host allocated the others.
    pub compiled_allocations: u64,
    /// How many calls there were, of functions and of the host.
    pub calls: u64,
    /// How often each kind of statement, expression, callee and failure occurred.
    pub executed: BTreeMap<&'static str, u64>,
}

/// What an entry has to do.
#[derive(Clone, PartialEq, Debug)]
pub struct EntryOutcome {
    /// What it gives.
    pub results: Result<Vec<Value>, Failure>,
    /// The trace so far.
    pub trace: i64,
}

/// Why an entry did not return.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Failure {
    #[error("null reference")]
    NullReference,
    #[error("index {index} out of bounds for {length} elements")]
    IndexOutOfBounds { index: i64, length: u64 },
    #[error("division by zero")]
    DivisionByZero,
    #[error("integer overflow")]
    IntegerOverflow,
    #[error("uncaught exception")]
    Uncaught,
    #[error("error of a host function")]
    Host,
}

impl Failure {
    fn kind(&self) -> &'static str {
        match self {
            Self::NullReference => "trap: null reference",
            Self::IndexOutOfBounds { .. } => "trap: index out of bounds",
            Self::DivisionByZero => "trap: division by zero",
            Self::IntegerOverflow => "trap: integer overflow",
            Self::Uncaught => "trap: uncaught",
            Self::Host => "trap: host",
        }
    }
}

/// Interprets a program.
pub fn interpret(program: &Program) -> Expected {
    let mut machine = Machine {
        program,
        expected: Expected {
            entries: Vec::new(),
            model: Model::default(),
            globals: vec![Value::Ref(None); program.globals.len()],
            kept: Vec::new(),
            compiled_allocations: 0,
            calls: 0,
            executed: BTreeMap::new(),
        },
        fuel: 0,
        trace: 0,
    };
    program.entries.iter().for_each(|entry| machine.enter(entry.function, &entry.numbers));
    machine.expected
}

struct Machine<'a> {
    program: &'a Program,
    expected: Expected,
    fuel: i64,
    trace: i64,
}

/// What leaves functions before they return.
enum Unwind {
    Thrown(Value),
    Failed(Failure),
}

/// What a call has of its own.
struct Frame {
    locals: Vec<Value>,
    bound: Vec<Value>,
}

type Evaluated<T> = Result<T, Unwind>;

/// How a statement ends.
enum Flow {
    Next,
    Return(Vec<Value>),
    TailCall(Callee, Vec<Value>),
}

fn fail<T>(failure: Failure) -> Evaluated<T> {
    Err(Unwind::Failed(failure))
}

impl<'a> Machine<'a> {
    fn enter(&mut self, function: FunctionId, numbers: &[i64]) {
        self.fuel = self.program.fuel;
        let function_ = &self.program.functions[function];
        let kept = &self.expected.kept;
        let arguments = function_.params.iter().zip(numbers).map(|(&ty, &number)| match ty {
            Type::Int => Value::Int(number),
            Type::Float => Value::Float(number as f64),
            Type::Ref(shape) => {
                let last = kept.iter().rev().find(|(of, _)| *of == shape);
                last.map_or(Value::Ref(None), |(_, value)| *value)
            }
            Type::Wide | Type::Vector => unreachable!("the host does not call such functions"),
        });
        let arguments = arguments.collect();
        let results = match self.invoke(function, arguments) {
            Ok(results) => {
                for (&ty, &value) in function_.results.iter().zip(&results) {
                    if let Type::Ref(shape) = ty {
                        self.expected.kept.push((shape, value));
                    }
                }
                Ok(results)
            }
            Err(Unwind::Thrown(thrown)) => {
                self.expected.kept.push((NODE, thrown));
                Err(Failure::Uncaught)
            }
            Err(Unwind::Failed(failure)) => Err(failure),
        };
        if let Err(failure) = &results {
            self.count(failure.kind());
        }
        self.expected.entries.push(EntryOutcome { results, trace: self.trace });
    }

    fn count(&mut self, kind: &'static str) {
        *self.expected.executed.entry(kind).or_default() += 1;
    }

    /// Calls a function, and those that it calls in its place.
    fn invoke(&mut self, function: FunctionId, arguments: Vec<Value>) -> Evaluated<Vec<Value>> {
        let (mut function, mut arguments) = (function, arguments);
        loop {
            self.expected.calls += 1;
            let of = &self.program.functions[function];
            if arguments[0].int() <= 0 || self.fuel <= 0 {
                return Ok(of.results.iter().map(|&ty| Value::zero(ty)).collect());
            }
            self.fuel -= 1;
            arguments.extend(of.locals[arguments.len()..].iter().map(|&ty| Value::zero(ty)));
            let mut frame = Frame { locals: arguments, bound: Vec::new() };
            match self.block(&of.body, &mut frame)? {
                Flow::Next => unreachable!("a function ends in a return"),
                Flow::Return(results) => return Ok(results),
                Flow::TailCall(Callee::Host(host), given) => return self.host(host, &given),
                Flow::TailCall(callee, given) => {
                    function = self.choose(&callee);
                    arguments = given;
                }
            }
        }
    }

    /// The function; the choice between two has been made.
    fn choose(&self, callee: &Callee) -> FunctionId {
        match *callee {
            Callee::Direct(function) => function,
            _ => unreachable!("resolved when it was called"),
        }
    }

    /// Whom a callee stands for. Before its arguments are evaluated.
    fn resolve(&mut self, callee: &Callee, frame: &mut Frame) -> Evaluated<Callee> {
        self.count(callee.kind());
        Ok(match callee {
            Callee::Indirect(which, first, second) => {
                let which = self.int(which, frame)?;
                Callee::Direct(if which != 0 { *first } else { *second })
            }
            other => other.clone(),
        })
    }

    fn call(
        &mut self,
        callee: &Callee,
        arguments: &[Expr],
        frame: &mut Frame,
    ) -> Evaluated<Vec<Value>> {
        let callee = self.resolve(callee, frame)?;
        let arguments = self.all(arguments, frame)?;
        match callee {
            Callee::Host(host) => self.host(host, &arguments),
            callee => self.invoke(self.choose(&callee), arguments),
        }
    }

    fn all(&mut self, exprs: &[Expr], frame: &mut Frame) -> Evaluated<Vec<Value>> {
        exprs.iter().map(|expr| self.expr(expr, frame)).collect()
    }

    fn block(&mut self, block: &Block, frame: &mut Frame) -> Evaluated<Flow> {
        for statement in block {
            match self.statement(statement, frame)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &Stmt, frame: &mut Frame) -> Evaluated<Flow> {
        self.count(statement.kind());
        match statement {
            Stmt::Set(local, value) => frame.locals[*local] = self.expr(value, frame)?,
            Stmt::Let(value, block) => {
                let value = self.expr(value, frame)?;
                return self.bind(&[value], block, frame);
            }
            Stmt::SetGlobal(global, value) => {
                self.expected.globals[*global] = self.expr(value, frame)?;
            }
            Stmt::SetField(_, field, object, value) => {
                let object = self.expr(object, frame)?;
                let value = self.expr(value, frame)?;
                let object = present(object)?;
                self.expected.model.store(self.program, object, *field, value);
            }
            Stmt::SetElement(_, array, index, value) => {
                let array = self.expr(array, frame)?;
                let index = self.int(index, frame)?;
                let value = self.expr(value, frame)?;
                let (array, index) = self.element(array, index)?;
                self.expected.model.store(self.program, array, index, value);
            }
            Stmt::Observe(value) => {
                let value = self.int(value, frame)?;
                self.trace = self.trace.wrapping_mul(31).wrapping_add(value);
            }
            Stmt::If(condition, yes, no) => {
                let condition = self.int(condition, frame)?;
                return self.block(if condition != 0 { yes } else { no }, frame);
            }
            Stmt::Loop(index, count, body) => {
                let count = self.int(count, frame)? & 7;
                for turn in 0..count {
                    if let Some(flow) = self.turn(Some((*index, turn)), body, frame)? {
                        return Ok(flow);
                    }
                }
            }
            Stmt::While(condition, body) => {
                while self.int(condition, frame)? != 0 && self.fuel > 0 {
                    if let Some(flow) = self.turn(None, body, frame)? {
                        return Ok(flow);
                    }
                }
            }
            Stmt::Call(to, callee, arguments) => {
                let results = self.call(callee, arguments, frame)?;
                to.iter().zip(results).for_each(|(&local, result)| frame.locals[local] = result);
            }
            Stmt::TryCall(callee, arguments, returned, caught) => {
                let callee = self.resolve(callee, frame)?;
                let arguments = self.all(arguments, frame)?;
                let outcome = match &callee {
                    Callee::Host(host) => self.host(*host, &arguments),
                    callee => self.invoke(self.choose(callee), arguments),
                };
                match outcome {
                    Ok(results) => return self.bind(&results, returned, frame),
                    Err(Unwind::Thrown(node)) => {
                        self.count("catch");
                        return self.bind(&[node], caught, frame);
                    }
                    Err(failed) => return Err(failed),
                }
            }
            Stmt::Collect => {}
            Stmt::Throw(node) => return Err(Unwind::Thrown(self.expr(node, frame)?)),
            Stmt::Return(results) => return Ok(Flow::Return(self.all(results, frame)?)),
            Stmt::TailCall(callee, arguments) => {
                let callee = self.resolve(callee, frame)?;
                return Ok(Flow::TailCall(callee, self.all(arguments, frame)?));
            }
        }
        Ok(Flow::Next)
    }

    /// Runs a block with values bound.
    fn bind(&mut self, values: &[Value], block: &Block, frame: &mut Frame) -> Evaluated<Flow> {
        let around = frame.bound.len();
        frame.bound.extend(values);
        let flow = self.block(block, frame)?;
        frame.bound.truncate(around);
        Ok(flow)
    }

    /// One turn of a loop; how it ends, if not in the next turn.
    fn turn(
        &mut self,
        index: Option<(Local, i64)>,
        body: &Block,
        frame: &mut Frame,
    ) -> Evaluated<Option<Flow>> {
        if self.fuel <= 0 {
            return Ok(Some(Flow::Next));
        }
        self.fuel -= 1;
        if let Some((local, turn)) = index {
            frame.locals[local] = Value::Int(turn);
        }
        Ok(match self.block(body, frame)? {
            Flow::Next => None,
            flow => Some(flow),
        })
    }

    fn int(&mut self, expr: &Expr, frame: &mut Frame) -> Evaluated<i64> {
        Ok(self.expr(expr, frame)?.int())
    }

    fn expr(&mut self, expr: &Expr, frame: &mut Frame) -> Evaluated<Value> {
        self.count(expr.kind());
        Ok(match expr {
            Expr::Const(value) => Value::Int(*value),
            Expr::Local(local) => frame.locals[*local],
            Expr::Bound(index) => frame.bound[*index],
            Expr::Global(global) => self.expected.globals[*global],
            Expr::Binary(op, left, right) => {
                let (left, right) = (self.int(left, frame)?, self.int(right, frame)?);
                Value::Int(binary(*op, left, right)?)
            }
            Expr::Make(ty, first, second) => {
                make(*ty, self.int(first, frame)?, self.int(second, frame)?)
            }
            Expr::Sum(_, left, right) => sum(self.expr(left, frame)?, self.expr(right, frame)?),
            Expr::ToInt(_, value) => Value::Int(to_int(self.expr(value, frame)?)),
            Expr::Null(_) => Value::Ref(None),
            Expr::New(shape, fields) => {
                let fields = self.all(fields, frame)?;
                self.expected.compiled_allocations += 1;
                Value::Ref(Some(self.expected.model.record(self.program, *shape, fields)))
            }
            Expr::NewArray(shape, length, first) => {
                let length = self.int(length, frame)? & (LENGTHS.end - 1);
                let first = first.as_ref().map(|first| self.expr(first, frame)).transpose()?;
                self.expected.compiled_allocations += 1;
                let array = self.expected.model.array(self.program, *shape, length as usize);
                let array = Value::Ref(Some(array));
                if let Some(first) = first {
                    let (array, index) = self.element(array, 0)?;
                    self.expected.model.store(self.program, array, index, first);
                }
                array
            }
            Expr::Field(_, field, object) => {
                let object = present(self.expr(object, frame)?)?;
                self.expected.model.values(object)[*field]
            }
            Expr::Element(_, array, index) => {
                let (array, index) = (self.expr(array, frame)?, self.int(index, frame)?);
                let (array, index) = self.element(array, index)?;
                self.expected.model.values(array)[index]
            }
            Expr::Number(_, object) => Value::Int(present(self.expr(object, frame)?)? as i64),
            Expr::Length(array) => {
                let array = present(self.expr(array, frame)?)?;
                Value::Int(self.expected.model.values(array).len() as i64)
            }
            Expr::IsNull(value) => {
                Value::Int(i64::from(self.expr(value, frame)?.reference().is_none()))
            }
            Expr::IsSame(left, right) => {
                Value::Int(i64::from(self.expr(left, frame)? == self.expr(right, frame)?))
            }
            Expr::Select(condition, yes, no) => {
                let condition = self.int(condition, frame)?;
                let (yes, no) = (self.expr(yes, frame)?, self.expr(no, frame)?);
                if condition != 0 { yes } else { no }
            }
            Expr::Or(first, second) => match self.expr(first, frame)? {
                Value::Ref(None) => self.expr(second, frame)?,
                value => value,
            },
            Expr::Call(callee, arguments, index) => self.call(callee, arguments, frame)?[*index],
        })
    }

    /// The array, and the index of an element that it has.
    fn element(&self, array: Value, index: i64) -> Evaluated<(Object, usize)> {
        let array = present(array)?;
        let length = self.expected.model.values(array).len() as u64;
        if index as u64 >= length {
            return fail(Failure::IndexOutOfBounds { index, length });
        }
        Ok((array, index as usize))
    }

    fn node(&mut self, left: Value, right: Value, number: i64) -> Object {
        let fields = vec![left, right, Value::Int(number)];
        self.expected.model.record(self.program, NODE, fields)
    }

    /// What the host function does, as [`crate::host`] does it.
    fn host(&mut self, host: Host, arguments: &[Value]) -> Evaluated<Vec<Value>> {
        self.expected.calls += 1;
        Ok(vec![match host {
            Host::Link => {
                let node = self.node(arguments[1], arguments[2], arguments[0].int());
                // Nobody keeps this one.
                self.node(Value::Ref(None), Value::Ref(None), 0);
                Value::Ref(Some(node))
            }
            Host::Walk => {
                let (mut sum, mut at) = (0i64, arguments[0].reference());
                for _ in 0..Host::WALKED {
                    let Some(node) = at else { break };
                    sum = sum.wrapping_mul(31).wrapping_add(node as i64);
                    at = self.expected.model.values(node)[0].reference();
                }
                Value::Int(sum)
            }
            Host::CallBack => self.call_back(arguments[0].int(), arguments[1])?,
            Host::Fail => match arguments[0].int() {
                number if number & 15 == 13 => return fail(Failure::Host),
                number if number & 15 == 3 => return Err(Unwind::Thrown(arguments[1])),
                number => Value::Int(number.wrapping_add(1)),
            },
            Host::Churn => {
                for _ in 0..Host::churned(arguments[0].int()) {
                    self.node(Value::Ref(None), Value::Ref(None), 0);
                }
                return Ok(Vec::new());
            }
        }])
    }

    fn call_back(&mut self, depth: i64, given: Value) -> Evaluated<Value> {
        let node = self.node(given, Value::Ref(None), depth);
        let arguments = vec![Value::Int(depth.wrapping_sub(1)), Value::Ref(Some(node))];
        match self.invoke(CALLED_BACK, arguments) {
            Ok(results) => {
                self.expected.model.store(self.program, node, 1, results[0]);
                Ok(Value::Ref(Some(node)))
            }
            Err(Unwind::Thrown(thrown)) if depth & 1 == 1 => Ok(thrown),
            Err(Unwind::Thrown(thrown)) => Err(Unwind::Thrown(thrown)),
            Err(Unwind::Failed(_)) if depth & 1 == 1 => Ok(given),
            Err(Unwind::Failed(_)) => fail(Failure::Host),
        }
    }
}

fn present(value: Value) -> Evaluated<Object> {
    value.reference().map_or_else(|| fail(Failure::NullReference), Ok)
}

fn binary(op: Op, left: i64, right: i64) -> Evaluated<i64> {
    Ok(match op {
        Op::Add => left.wrapping_add(right),
        Op::Subtract => left.wrapping_sub(right),
        Op::Multiply => left.wrapping_mul(right),
        Op::Xor => left ^ right,
        Op::Less => i64::from(left < right),
        Op::Equal => i64::from(left == right),
        Op::Divide | Op::Remainder if right == 0 => return fail(Failure::DivisionByZero),
        Op::Divide => match left.checked_div(right) {
            Some(quotient) => quotient,
            None => return fail(Failure::IntegerOverflow),
        },
        Op::Remainder => (left as u64 % right as u64) as i64,
    })
}

fn make(ty: Type, first: i64, second: i64) -> Value {
    match ty {
        Type::Float => Value::Float(first as f64 + second as f64),
        Type::Wide => Value::Wide(i128::from(second) << 64 | i128::from(first as u64)),
        Type::Vector => Value::Vector([first, second]),
        Type::Int | Type::Ref(_) => unreachable!("made of no integers"),
    }
}

fn sum(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => Value::Float(left + right),
        (Value::Wide(left), Value::Wide(right)) => Value::Wide(left.wrapping_add(right)),
        (Value::Vector(left), Value::Vector(right)) => {
            Value::Vector([left[0].wrapping_add(right[0]), left[1].wrapping_add(right[1])])
        }
        _ => unreachable!("{left:?} + {right:?}"),
    }
}

fn to_int(value: Value) -> i64 {
    match value {
        Value::Float(value) => value as i64,
        Value::Wide(value) => value as i64 ^ (value >> 64) as i64,
        Value::Vector(lanes) => lanes[0].wrapping_sub(lanes[1]),
        Value::Int(_) | Value::Ref(_) => unreachable!("{value:?} is converted to an integer"),
    }
}
