//! Programs as a person reads them.

use std::fmt::{self, Display, Formatter, Result};

use crate::program::{
    Block, Callee, Expr, Function, Op, Program, Shape, ShapeId, Stmt, Storage, Type,
};

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, shape) in self.shapes.iter().enumerate() {
            writeln!(f, "shape {index} = {shape}")?;
        }
        for (index, shape) in self.globals.iter().enumerate() {
            writeln!(f, "global g{index}: {}", Type::Ref(*shape))?;
        }
        for (index, function) in self.functions.iter().enumerate() {
            writeln!(f, "fn f{index}{function}")?;
        }
        for entry in &self.entries {
            writeln!(f, "enter f{} {:?} with fuel {}", entry.function, entry.numbers, self.fuel)?;
        }
        Ok(())
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Record(fields) => write!(f, "{{ number{} }}", list(fields, ", ", ", ")),
            Self::Array(element) => write!(f, "[{element}]"),
        }
    }
}

impl Display for Storage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Scalar(scalar) => write!(f, "{scalar:?}"),
            Self::Ref(shape) => write!(f, "{}", Type::Ref(*shape)),
        }
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Ref(shape) => write!(f, "ref {shape}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let locals = self.locals.iter().enumerate().map(|(index, ty)| format!("v{index}: {ty}"));
        let locals: Vec<String> = locals.collect();
        let (params, others) = locals.split_at(self.params.len());
        writeln!(f, "({}) -> ({}) {{", params.join(", "), list(&self.results, "", ", "))?;
        if !others.is_empty() {
            writeln!(f, "  var {}", others.join(", "))?;
        }
        block(f, &self.body, 1)?;
        write!(f, "}}")
    }
}

fn block(f: &mut Formatter<'_>, statements: &Block, indent: usize) -> Result {
    statements.iter().try_for_each(|statement| self::statement(f, statement, indent))
}

fn statement(f: &mut Formatter<'_>, statement: &Stmt, indent: usize) -> Result {
    let margin = "  ".repeat(indent);
    let locals = |to: &[usize]| {
        let to: Vec<String> = to.iter().map(|local| format!("v{local}")).collect();
        to.join(", ")
    };
    write!(f, "{margin}")?;
    match statement {
        Stmt::Set(local, value) => writeln!(f, "v{local} = {value}"),
        Stmt::SetGlobal(global, value) => writeln!(f, "g{global} = {value}"),
        Stmt::SetField(_, field, object, value) => writeln!(f, "{object}.{field} = {value}"),
        Stmt::SetElement(_, array, index, value) => writeln!(f, "{array}[{index}] = {value}"),
        Stmt::Observe(value) => writeln!(f, "observe {value}"),
        Stmt::If(condition, yes, no) => {
            writeln!(f, "if {condition} {{")?;
            block(f, yes, indent + 1)?;
            writeln!(f, "{margin}}} else {{")?;
            block(f, no, indent + 1)?;
            writeln!(f, "{margin}}}")
        }
        Stmt::Loop(index, count, body) => {
            writeln!(f, "for v{index} below {count} & 7 {{")?;
            block(f, body, indent + 1)?;
            writeln!(f, "{margin}}}")
        }
        Stmt::While(condition, body) => {
            writeln!(f, "while {condition} {{")?;
            block(f, body, indent + 1)?;
            writeln!(f, "{margin}}}")
        }
        Stmt::Call(to, callee, arguments) => {
            writeln!(f, "({}) = {callee}({})", locals(to), list(arguments, "", ", "))
        }
        Stmt::Let(value, inside) => {
            writeln!(f, "let {value} {{")?;
            block(f, inside, indent + 1)?;
            writeln!(f, "{margin}}}")
        }
        Stmt::TryCall(callee, arguments, returned, caught) => {
            writeln!(f, "try let {callee}({}) {{", list(arguments, "", ", "))?;
            block(f, returned, indent + 1)?;
            writeln!(f, "{margin}}} catch {{")?;
            block(f, caught, indent + 1)?;
            writeln!(f, "{margin}}}")
        }
        Stmt::Collect => writeln!(f, "collect"),
        Stmt::Throw(node) => writeln!(f, "throw {node}"),
        Stmt::Return(results) => writeln!(f, "return {}", list(results, "", ", ")),
        Stmt::TailCall(callee, arguments) => {
            writeln!(f, "tail call {callee}({})", list(arguments, "", ", "))
        }
    }
}

impl Display for Callee {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Direct(function) => write!(f, "f{function}"),
            Self::Indirect(which, first, second) => write!(f, "({which} ? &f{first} : &f{second})"),
            Self::Host(host) => write!(f, "{host:?}"),
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Xor => "^",
            Self::Less => "<",
            Self::Equal => "==",
            Self::Divide => "/",
            Self::Remainder => "%",
        })
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Const(value) => write!(f, "{value}"),
            Self::Local(local) => write!(f, "v{local}"),
            Self::Bound(index) => write!(f, "let{index}"),
            Self::Global(global) => write!(f, "g{global}"),
            Self::Binary(op, left, right) => write!(f, "({left} {op} {right})"),
            Self::Make(ty, first, second) => write!(f, "{ty}({first}, {second})"),
            Self::Sum(_, left, right) => write!(f, "({left} + {right})"),
            Self::ToInt(_, value) => write!(f, "int({value})"),
            Self::Null(_) => write!(f, "null"),
            Self::New(shape, fields) => write!(f, "{}{{{}}}", name(*shape), list(fields, "", ", ")),
            Self::NewArray(shape, length, None) => write!(f, "{}[{length} & 15]", name(*shape)),
            Self::NewArray(shape, length, Some(first)) => {
                write!(f, "{}[{length} & 15: {first}, ..]", name(*shape))
            }
            Self::Field(_, field, object) => write!(f, "{object}.{field}"),
            Self::Element(_, array, index) => write!(f, "{array}[{index}]"),
            Self::Number(_, object) => write!(f, "{object}.number"),
            Self::Length(array) => write!(f, "{array}.length"),
            Self::IsNull(value) => write!(f, "({value} is null)"),
            Self::IsSame(left, right) => write!(f, "({left} is {right})"),
            Self::Select(condition, yes, no) => write!(f, "select({condition}, {yes}, {no})"),
            Self::Or(first, second) => write!(f, "({first} or {second})"),
            Self::Call(callee, arguments, index) => {
                write!(f, "{callee}({}).{index}", list(arguments, "", ", "))
            }
        }
    }
}

fn name(shape: ShapeId) -> String {
    format!("shape{shape}")
}

/// Items with a separator between them, and something in front if there are any.
fn list(items: &[impl fmt::Display], front: &str, separator: &str) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { String::new() } else { front.to_owned() + &items.join(separator) }
}
