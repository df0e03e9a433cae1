//! A progress bar over bytes, where somebody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress of reading so many bytes. It draws on stderr, and only if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins; `what` stands before the bar.
    pub(crate) fn new(what: &'static str, bytes: u64) -> Progress {
        // A hidden target is what indicatif makes of a stderr that is no terminal.
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{prefix} [{bar:30}] {bytes} of {total_bytes}, {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Progress(bar)
    }

    /// Names what is being read.
    pub(crate) fn at(&self, name: &str) {
        self.0.set_message(name.to_owned());
    }

    /// So many bytes more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
