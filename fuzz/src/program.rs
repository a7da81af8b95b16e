//! The programs: a small imperative language with records, arrays and references, typed so that
//! every reference's shape is known where it is used.
//!
//! Every object has a number of its own, its place in the order of allocation, so that a stale
//! reference cannot hide behind an equal one. What a program may do is bounded by *fuel*, which
//! every call and every turn of a loop burns; each call also takes a *depth*, its first parameter,
//! and gives its callees less.

use std::ops::Range;

/// The shape of an object, by its index in [`Program::shapes`].
pub type ShapeId = usize;
/// A local variable, by its index in [`Function::locals`].
pub type Local = usize;
/// A function, by its index in [`Program::functions`].
pub type FunctionId = usize;

/// The shape of a node: a record of two references to nodes and a number. Host functions take and
/// give nodes, and what is thrown is one.
pub const NODE: ShapeId = 0;
/// The fields of a node.
pub const NODE_FIELDS: [Storage; 3] =
    [Storage::Ref(NODE), Storage::Ref(NODE), Storage::Scalar(Scalar::I64)];

/// The function that host functions call: it takes a depth and a node, and gives a node.
pub const CALLED_BACK: FunctionId = 0;

/// The elements that an array can have: its length is computed modulo this.
pub const LENGTHS: Range<i64> = 0..16;

/// The type of a local variable, a parameter, a result, an expression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// 64 bits.
    Int,
    /// A 64-bit float.
    Float,
    /// 128 bits.
    Wide,
    /// Two lanes of 64 bits.
    Vector,
    /// A reference to an object of a shape, or null.
    Ref(ShapeId),
}

/// What a scalar is in an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "named as Cranelift names its types")]
pub enum Scalar {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    I128,
    I64X2,
}

impl Scalar {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::I64, Self::I8, Self::I16, Self::I32, Self::F32, Self::F64, Self::I128, Self::I64X2];

    /// Its size.
    pub fn bytes(self) -> u32 {
        match self {
            Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::I128 | Self::I64X2 => 16,
        }
    }

    /// The type that it has in a local variable.
    pub fn ty(self) -> Type {
        match self {
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => Type::Int,
            Self::F32 | Self::F64 => Type::Float,
            Self::I128 => Type::Wide,
            Self::I64X2 => Type::Vector,
        }
    }
}

/// A field or an element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Storage {
    /// Anything but a reference.
    Scalar(Scalar),
    /// A reference to an object of this shape, or null.
    Ref(ShapeId),
}

impl Storage {
    /// The type of what is loaded from it.
    pub fn ty(self) -> Type {
        match self {
            Self::Scalar(scalar) => scalar.ty(),
            Self::Ref(shape) => Type::Ref(shape),
        }
    }

    /// Its size.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Scalar(scalar) => scalar.bytes(),
            Self::Ref(_) => 8,
        }
    }
}

/// What an object looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A 64-bit field for the object's number, and then these.
    Record(Vec<Storage>),
    /// An array.
    Array(Storage),
}

/// An operation on two integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Wraps around.
    Add,
    /// Wraps around.
    Subtract,
    /// Wraps around.
    Multiply,
    /// Bit by bit.
    Xor,
    /// 1 or 0; signed.
    Less,
    /// 1 or 0.
    Equal,
    /// Traps if the divisor is 0 or the quotient overflows; signed.
    Divide,
    /// Traps if the divisor is 0; unsigned.
    Remainder,
}

/// A function of the host that compiled code calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// `(number, left, right) -> node`: makes a node of them, with collections around it.
    Link,
    /// `(node) -> number`: follows `left` and adds up the numbers, with collections on the way.
    Walk,
    /// `(depth, node) -> node`: gives [`CALLED_BACK`] a new node, and holds that one meanwhile.
    /// What that throws it throws on, or returns if `depth` is odd; another trap becomes an error,
    /// or the node that it was given.
    CallBack,
    /// `(number, node) -> number`: one more, unless the number modulo 16 is 13, which is an error, or
    /// 3, which throws the node.
    Fail,
    /// `(number)`: allocates nodes that nobody keeps.
    Churn,
}

impl Host {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Link, Self::Walk, Self::CallBack, Self::Fail, Self::Churn];

    /// The most nodes that [`Host::Walk`] looks at.
    pub const WALKED: usize = 6;

    /// How many nodes [`Host::Churn`] allocates.
    pub fn churned(number: i64) -> usize {
        (number & 15) as usize * 24
    }

    /// What it takes and gives.
    pub fn signature(self) -> (&'static [Type], &'static [Type]) {
        use Type::{Int, Ref};
        match self {
            Self::Link => (&[Int, Ref(NODE), Ref(NODE)], &[Ref(NODE)]),
            Self::Walk => (&[Ref(NODE)], &[Int]),
            Self::CallBack => (&[Int, Ref(NODE)], &[Ref(NODE)]),
            Self::Fail => (&[Int, Ref(NODE)], &[Int]),
            Self::Churn => (&[Int], &[]),
        }
    }
}

/// Whom a call calls.
#[derive(Clone, PartialEq, Debug)]
pub enum Callee {
    /// A function.
    Direct(FunctionId),
    /// The first function if the expression is not 0, or else the second: by address. Both have the
    /// same signature.
    Indirect(Box<Expr>, FunctionId, FunctionId),
    /// The host.
    Host(Host),
}

/// An expression. Operands are evaluated from left to right, all of them.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// An integer.
    Const(i64),
    /// A variable's value.
    Local(Local),
    /// A value that a statement around this one has bound, by the number of bindings around that.
    Bound(usize),
    /// A global's reference.
    Global(usize),
    /// Integers.
    Binary(Op, Box<Expr>, Box<Expr>),
    /// A float, a wide integer or a vector of two integers.
    Make(Type, Box<Expr>, Box<Expr>),
    /// The sum of two floats, wide integers or vectors.
    Sum(Type, Box<Expr>, Box<Expr>),
    /// An integer of a float, wide integer or vector.
    ToInt(Type, Box<Expr>),
    /// No object.
    Null(ShapeId),
    /// A new record of these fields.
    New(ShapeId, Vec<Expr>),
    /// A new array; its length is the first operand modulo 16, its first element the second, if
    /// there is one; traps if there is no such element.
    NewArray(ShapeId, Box<Expr>, Option<Box<Expr>>),
    /// What is in a field of a record; traps if that is null.
    Field(ShapeId, usize, Box<Expr>),
    /// What is in an element of an array; traps if there is none.
    Element(ShapeId, Box<Expr>, Box<Expr>),
    /// The number of a record; traps if that is null.
    Number(ShapeId, Box<Expr>),
    /// The length of an array; traps if that is null.
    Length(Box<Expr>),
    /// 1 or 0.
    IsNull(Box<Expr>),
    /// 1 or 0.
    IsSame(Box<Expr>, Box<Expr>),
    /// The second operand if the first is not 0, or else the third, by one instruction.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// The first operand, or the second, evaluated only if the first is null: by a branch.
    Or(Box<Expr>, Box<Expr>),
    /// One of a call's results.
    Call(Callee, Vec<Expr>, usize),
}

/// A sequence of statements.
pub type Block = Vec<Stmt>;

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// Gives a variable another value.
    Set(Local, Expr),
    /// Binds the value in the block. It is not a variable: nothing but stack maps keeps it alive.
    Let(Expr, Block),
    /// Stores in a global.
    SetGlobal(usize, Expr),
    /// Stores the second expression in a field of the first; traps if that is null.
    SetField(ShapeId, usize, Expr, Expr),
    /// Stores the third expression in the array at the index; traps if there is no such element.
    SetElement(ShapeId, Expr, Expr, Expr),
    /// Makes an integer part of the program's trace.
    Observe(Expr),
    /// The first block if the expression is not 0, or else the second.
    If(Expr, Block, Block),
    /// Runs the block with the variable counting from 0 up to the expression modulo 8.
    Loop(Local, Expr, Block),
    /// Runs the block as long as the expression is not 0.
    While(Expr, Block),
    /// Calls, and puts the results in variables.
    Call(Vec<Local>, Callee, Vec<Expr>),
    /// Calls; runs the first block with the results bound, or the second with what was thrown.
    TryCall(Callee, Vec<Expr>, Block, Block),
    /// Collects garbage.
    Collect,
    /// Throws a node.
    Throw(Expr),
    /// Returns.
    Return(Vec<Expr>),
    /// Returns what the callee returns, in its place.
    TailCall(Callee, Vec<Expr>),
}

/// A function. With no fuel or depth left it returns zeros and nulls at once; otherwise it burns
/// fuel, and runs its body, which ends in a return.
#[derive(Clone, PartialEq, Debug)]
pub struct Function {
    /// The first is the depth.
    pub params: Vec<Type>,
    /// What it returns.
    pub results: Vec<Type>,
    /// The parameters, and then variables that are zero or null at first.
    pub locals: Vec<Type>,
    /// What it does.
    pub body: Block,
}

/// A call from the host. A parameter that is a reference gets the last result of that shape that
/// the host has kept, or null.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The function.
    pub function: FunctionId,
    /// For the depth, and each parameter that is an integer or a float.
    pub numbers: Vec<i64>,
}

/// A program.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// The first is the node's.
    pub shapes: Vec<Shape>,
    /// The shapes of what globals refer to.
    pub globals: Vec<ShapeId>,
    /// The functions.
    pub functions: Vec<Function>,
    /// What the host calls, on one mutator.
    pub entries: Vec<Entry>,
    /// For each entry.
    pub fuel: i64,
}

impl Program {
    /// The fields of a record, without its number.
    ///
    /// # Panics
    /// If the shape is not a record's.
    pub fn fields(&self, shape: ShapeId) -> &[Storage] {
        match &self.shapes[shape] {
            Shape::Record(fields) => fields,
            Shape::Array(_) => panic!("shape {shape} is an array"),
        }
    }

    /// The elements of an array.
    ///
    /// # Panics
    /// If the shape is not an array's.
    pub fn element(&self, shape: ShapeId) -> Storage {
        match self.shapes[shape] {
            Shape::Array(element) => element,
            Shape::Record(_) => panic!("shape {shape} is a record"),
        }
    }

    /// Whether objects of a shape are records.
    pub fn is_record(&self, shape: ShapeId) -> bool {
        matches!(self.shapes[shape], Shape::Record(_))
    }

    /// What a callee takes and gives.
    pub fn signature(&self, callee: &Callee) -> (&[Type], &[Type]) {
        match *callee {
            Callee::Direct(function) | Callee::Indirect(_, function, _) => {
                let function = &self.functions[function];
                (&function.params, &function.results)
            }
            Callee::Host(host) => host.signature(),
        }
    }
}

impl Function {
    /// Whether the host can call it: a value of more than eight bytes does not cross.
    pub fn crosses(&self) -> bool {
        let mut types = self.params.iter().chain(&self.results);
        types.all(|ty| !matches!(ty, Type::Wide | Type::Vector))
    }
}

impl Stmt {
    /// What kind of statement it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Set(..) => "set",
            Self::Let(..) => "let",
            Self::SetGlobal(..) => "set global",
            Self::SetField(..) => "set field",
            Self::SetElement(..) => "set element",
            Self::Observe(_) => "observe",
            Self::If(..) => "if",
            Self::Loop(..) => "loop",
            Self::While(..) => "while",
            Self::Call(..) => "call",
            Self::TryCall(..) => "try call",
            Self::Collect => "collect",
            Self::Throw(_) => "throw",
            Self::Return(_) => "return",
            Self::TailCall(..) => "tail call",
        }
    }
}

impl Expr {
    /// What kind of expression it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Const(_) => "constant",
            Self::Local(_) => "local",
            Self::Bound(_) => "bound",
            Self::Global(_) => "global",
            Self::Binary(..) => "binary",
            Self::Make(..) => "make",
            Self::Sum(..) => "sum",
            Self::ToInt(..) => "to int",
            Self::Null(_) => "null",
            Self::New(..) => "new record",
            Self::NewArray(..) => "new array",
            Self::Field(..) => "field",
            Self::Element(..) => "element",
            Self::Number(..) => "number",
            Self::Length(_) => "length",
            Self::IsNull(_) => "is null",
            Self::IsSame(..) => "is same",
            Self::Select(..) => "select",
            Self::Or(..) => "or",
            Self::Call(..) => "call in an expression",
        }
    }
}

impl Callee {
    /// What kind of callee it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Indirect(..) => "indirect",
            Self::Host(Host::Link) => "host link",
            Self::Host(Host::Walk) => "host walk",
            Self::Host(Host::CallBack) => "host call back",
            Self::Host(Host::Fail) => "host fail",
            Self::Host(Host::Churn) => "host churn",
        }
    }
}
