//! The machine that code is compiled for, and the settings that the walk relies on.

use std::sync::Arc;

use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::settings::{self, Configurable};

use super::Error;

/// How hard Cranelift optimises.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OptLevel {
    /// Compile as fast as possible.
    None,
    /// Make the code fast.
    #[default]
    Speed,
    /// Make the code fast and small.
    SpeedAndSize,
}

/// The host's instruction set.
///
/// Without `native_features` it is the baseline of the architecture, so that the code is the same on
/// every machine of one target.
pub(super) fn host_isa(
    opt_level: OptLevel,
    native_features: bool,
) -> Result<Arc<dyn TargetIsa>, Error> {
    let opt_level = match opt_level {
        OptLevel::None => "none",
        OptLevel::Speed => "speed",
        OptLevel::SpeedAndSize => "speed_and_size",
    };
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", opt_level),
        // The walk follows frame pointers from exit to entry.
        ("preserve_frame_pointers", "true"),
        // A large frame must not step over the guard page, where a stack's overflow is noticed.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        // As many results as one likes: beyond the registers, in the caller's frame.
        ("enable_multi_ret_implicit_sret", "true"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
    ] {
        flags.set(name, value).expect("Cranelift has this setting");
    }
    let builder = cranelift_native::builder_with_options(native_features).map_err(Error::Host)?;
    builder.finish(settings::Flags::new(flags)).map_err(|error| Error::Codegen(error.to_string()))
}
