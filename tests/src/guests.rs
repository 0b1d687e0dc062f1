//! Bundles of the guests, as the build script embedded them.

use std::sync::LazyLock;

use spore_client::{Bundle, CallLimits, Callable, Handle, Host, NoCaptures};

static HOSTILE: LazyLock<Bundle> = LazyLock::new(|| spore_client::embedded_bundle!("hostile"));
static KEEPER: LazyLock<Bundle> = LazyLock::new(|| spore_client::embedded_bundle!("keeper"));
static PLAIN: LazyLock<Bundle> = LazyLock::new(|| spore_client::embedded_bundle!("plain"));
static RESUMER: LazyLock<Bundle> = LazyLock::new(|| spore_client::embedded_bundle!("resumer"));

/// The guest that misbehaves.
pub fn hostile() -> &'static Bundle {
    &HOSTILE
}

/// The guest that remembers.
pub fn keeper() -> &'static Bundle {
    &KEEPER
}

/// The guest that does not.
pub fn plain() -> &'static Bundle {
    &PLAIN
}

/// The guest whose runs are stopped and continued.
pub fn resumer() -> &'static Bundle {
    &RESUMER
}

/// A callable of one of the guests, by its handle.
///
/// # Panics
///
/// When the bundle has another one of the name.
pub fn of<A, R, E, K>(
    bundle: &Bundle,
    handle: Handle<NoCaptures, A, R, E, K>,
) -> Callable<NoCaptures, A, R, E, K> {
    bundle
        .callable(handle)
        .expect("the program was compiled with this guest")
}

/// Limits that end a guest which would go on for long.
pub fn wall(milliseconds: u64) -> CallLimits {
    CallLimits {
        wall_ms: Some(milliseconds),
        ..CallLimits::default()
    }
}

/// A good call, which shows that the host still serves.
///
/// # Panics
///
/// When it does not.
pub async fn assert_serves(host: &Host) {
    let double = of(plain(), plain::double::HANDLE);
    let doubled = host
        .call(&double, (21,))
        .await
        .expect("the host still serves");
    assert_eq!(doubled, 42);
}
