//! Panics as findings: caught where a case runs, counted wherever they happen.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static HOOK: Once = Once::new();
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; a panic in it becomes an error that says where.
pub fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            COUNT.fetch_add(1, Ordering::SeqCst);
            let place = info.location().map_or(String::new(), |location| location.to_string());
            let _thread_is_ending = PLACE.try_with(|cell| cell.replace(place));
        }));
    });
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let place = PLACE.with(|cell| cell.take());
        format!("panic at {place}: {}", message(&*payload))
    })
}

/// Panics of all threads since the first [`caught`].
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}
