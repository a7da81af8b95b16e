//! A progress bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `steps` steps on standard error. Drawn only when one is taken, so that nothing runs
/// beside a measurement, and only if standard error is a terminal.
pub fn bar(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    let bar = ProgressBar::new(steps).with_style(style.expect("the template is right"));
    bar.tick();
    bar
}
