//! What goes wrong in compiled code, as a value.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::mutator::MissedRoot;

/// Why compiled code was left before it returned, and where it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trap {
    /// What went wrong.
    pub kind: TrapKind,
    /// The frames of compiled code that were abandoned, newest first.
    pub backtrace: Vec<Location>,
}

/// A place in compiled code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The function's name.
    pub function: Arc<str>,
    /// The offset from the function's start, in bytes: of the return address, or of the instruction
    /// that trapped.
    pub offset: usize,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TrapKind {
    /// The objects that are in use leave no room for another one.
    #[error(
        "heap full: {asked} bytes asked, {free} free of {heap} after collection {collections}; \
         {live} live"
    )]
    HeapFull {
        /// The size of the object that does not fit, header included.
        asked: u64,
        /// What could still be allocated, though perhaps not in one piece.
        free: u64,
        /// Bytes of the objects that survived the last collection.
        live: u64,
        /// The heap's size.
        heap: u64,
        /// How many collections there have been.
        collections: u64,
    },
    /// Compiled code called itself too deeply.
    #[error(
        "stack overflow: the stack has {bytes} bytes, and the host is not called in the last {reserve} \
         of them"
    )]
    StackOverflow {
        /// The size of the thread's stack.
        bytes: usize,
        /// What must be left of it when the host is called.
        reserve: usize,
    },
    /// A field or an element of null.
    #[error("null reference")]
    NullReference,
    /// An array has no such element.
    #[error("index {index} out of bounds: the array has {length} elements")]
    IndexOutOfBounds {
        /// The index asked for.
        index: i64,
        /// The number of elements.
        length: u64,
    },
    /// An integer was divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// An integer division whose quotient has too many bits.
    #[error("integer overflow")]
    IntegerOverflow,
    /// A float that is no integer of the type that it was converted to.
    #[error("conversion of a float that no integer is like")]
    BadConversion,
    /// A trap instruction with a code of the program's own, from 1 to 248.
    #[error("trap {0}")]
    User(u8),
    /// A trap instruction with Cranelift's own code for an access out of bounds.
    #[error("access out of bounds")]
    OutOfBounds,
    /// An instruction that the processor refuses, and nobody said why.
    #[error("illegal instruction")]
    IllegalInstruction,
    /// Memory that compiled code may not touch. Under [`crate::heap::HeapOptions::protect`], most
    /// likely a stale reference.
    #[error("access to {address:#x}: {}", what_is_there(.stale, .missed_root))]
    BadAccess {
        /// The address; [`crate::stack::fault::UNKNOWN_ADDRESS`] if the processor does not say, as
        /// x86-64 does not of one that is no address at all.
        address: usize,
        /// Whether the collector knows it as retired memory.
        stale: bool,
        /// Where the reference was when it was missed, if that was looked for: see
        /// [`crate::Mutator::missed_roots`].
        missed_root: Option<Box<MissedRoot>>,
    },
    /// An exception that no handler caught. The host finds it by
    /// [`crate::Scope::take_thrown`].
    #[error("uncaught exception")]
    Uncaught,
    /// A host function failed.
    #[error("{0}")]
    Host(HostError),
    /// An array cannot have this length.
    #[error("an array of {length} elements: the length is from 0 to {max}", max = u32::MAX)]
    ArrayLength {
        /// The length asked for.
        length: i64,
    },
}

fn what_is_there(stale: &bool, missed_root: &Option<Box<MissedRoot>>) -> String {
    let missed = missed_root.as_ref().map_or(String::new(), |missed| format!(" ({missed})"));
    match stale {
        true => format!("an object was there, and has moved: a stale reference{missed}"),
        false => "no memory is there".to_owned(),
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Deep recursion ends in many equal frames: the newest and the oldest tell the story.
        const SHOWN: usize = 8;
        write!(f, "{}", self.kind)?;
        let count = self.backtrace.len();
        for (index, Location { function, offset }) in self.backtrace.iter().enumerate() {
            if count > 2 * SHOWN && index == SHOWN {
                write!(f, "\n    ... {} frames", count - 2 * SHOWN)?;
            }
            if count <= 2 * SHOWN || index < SHOWN || index >= count - SHOWN {
                write!(f, "\n    in {function} +{offset:#x}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Trap {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            TrapKind::Host(error) => error.error(),
            _ => None,
        }
    }
}

/// Why a host function failed: any error, for the caller of `call` to find in
/// [`TrapKind::Host`].
///
/// `?` makes one of everything that is an error. A [`TrapKind`] stays what it is: a host function in
/// which the heap is full traps like compiled code in which it is.
#[derive(Clone)]
pub struct HostError(Reason);

#[derive(Clone)]
enum Reason {
    Error(Arc<dyn StdError + Send + Sync>),
    /// Not an error: the exception of this number, which waits in the mutator.
    Thrown(u64),
}

impl HostError {
    pub(crate) fn thrown(number: u64) -> Self {
        Self(Reason::Thrown(number))
    }

    /// An error that is a message.
    pub fn new(message: impl Into<String>) -> Self {
        let error: Box<dyn StdError + Send + Sync> = message.into().into();
        Self(Reason::Error(error.into()))
    }

    /// The error.
    pub fn error(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Reason::Error(error) => Some(&**error),
            Reason::Thrown(_) => None,
        }
    }

    /// The exception's number, if it is one.
    pub(crate) fn exception(&self) -> Option<u64> {
        match self.0 {
            Reason::Error(_) => None,
            Reason::Thrown(number) => Some(number),
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HostError {
    fn from(error: E) -> Self {
        Self(Reason::Error(Arc::new(error)))
    }
}

impl From<HostError> for TrapKind {
    fn from(error: HostError) -> Self {
        match error.error().and_then(|error| error.downcast_ref::<TrapKind>()) {
            Some(kind) => kind.clone(),
            None => Self::Host(error),
        }
    }
}

impl PartialEq for HostError {
    /// Whether it is the same error, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Reason::Error(left), Reason::Error(right)) => Arc::ptr_eq(left, right),
            (Reason::Thrown(left), Reason::Thrown(right)) => left == right,
            _ => false,
        }
    }
}

impl Eq for HostError {}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Error(error) => fmt::Debug::fmt(error, f),
            Reason::Thrown(number) => write!(f, "Thrown({number})"),
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Error(error) => fmt::Display::fmt(error, f),
            Reason::Thrown(_) => f.write_str("an exception of an earlier call"),
        }
    }
}
