//! The debug modes, and how the environment switches them on in a program that does not know them.

use std::env;
use std::str::FromStr;

use thiserror::Error;

/// The environment variable that [`DebugModes::from_env`] reads.
pub const VARIABLE: &str = "TOSPACE_DEBUG";

/// What to check beyond what is always checked. All off cost nothing in compiled code.
///
/// Written as a list: `stress=1,protect,verify,missed-roots,check`. The constructors that have such options
/// ([`crate::heap::HeapOptions::new`], [`crate::jit::ModuleOptions::new`],
/// [`crate::Mutator::observed`]) take them from the variable `TOSPACE_DEBUG`.
///
/// ```
/// use tospace::debug::DebugModes;
///
/// let modes: DebugModes = "stress=10,verify".parse()?;
/// assert_eq!(modes, DebugModes { stress: 10, verify: true, ..DebugModes::default() });
/// assert!("stres".parse::<DebugModes>().is_err());
/// # Ok::<(), tospace::debug::DebugModesError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DebugModes {
    /// Collect at every nth allocation; 0 for only when the heap is full. See
    /// [`crate::Mutator::set_stress`].
    pub stress: u64,
    /// See [`crate::heap::HeapOptions::protect`].
    pub protect: bool,
    /// See [`crate::Mutator::set_verify`].
    pub verify: bool,
    /// See [`crate::jit::ModuleOptions::missed_roots`].
    pub missed_roots: bool,
    /// Also without debug assertions: see [`crate::jit::ModuleOptions::check`].
    pub check: bool,
}

/// A list of debug modes that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{0}` is no debug mode: {VARIABLE} is a list of stress=N, protect, verify, missed-roots, check"
)]
pub struct DebugModesError(String);

impl DebugModes {
    /// What [`VARIABLE`] says; nothing if it is not set.
    ///
    /// # Errors
    /// If it says what is no debug mode.
    pub fn from_env() -> Result<Self, DebugModesError> {
        match env::var_os(VARIABLE) {
            Some(modes) => modes.to_string_lossy().parse(),
            None => Ok(Self::default()),
        }
    }

    /// For constructors that cannot fail: [`crate::Mutator::observed`], which comes after them, does.
    pub(crate) fn from_env_or_none() -> Self {
        Self::from_env().unwrap_or_default()
    }
}

impl FromStr for DebugModes {
    type Err = DebugModesError;

    fn from_str(text: &str) -> Result<Self, DebugModesError> {
        let mut modes = Self::default();
        for mode in text.split(',').map(str::trim).filter(|mode| !mode.is_empty()) {
            let error = || DebugModesError(mode.to_owned());
            match mode.split_once('=') {
                Some(("stress", every)) => modes.stress = every.parse().map_err(|_| error())?,
                None if mode == "protect" => modes.protect = true,
                None if mode == "verify" => modes.verify = true,
                None if mode == "missed-roots" => modes.missed_roots = true,
                None if mode == "check" => modes.check = true,
                _ => return Err(error()),
            }
        }
        Ok(modes)
    }
}
