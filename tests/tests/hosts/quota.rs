//! What a key may have stored.

use spore_client::{RefusalCode, Setup};
use spore_tests::guests::{assert_serves, plain};
use spore_tests::local::Local;
use spore_tests::outcome::refused;

#[tokio::test]
async fn a_key_stores_no_more_than_its_line_allows() {
    let local = Local::start(Setup::default(), &["stored=1KiB", ""]);
    let bounded = local.connect(0).await;
    let refused = refused(bounded.ship(plain()).await, RefusalCode::StoreFull);
    assert_eq!(refused.limit, Some(1024));
    let free = local.connect(1).await;
    free.ship(plain()).await.expect("another key has room");
    assert_serves(&free).await;
}
