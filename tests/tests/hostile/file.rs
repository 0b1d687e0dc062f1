//! Files that are no bundles, or bundles that somebody has changed.

use spore_bundle::limits::STATE_BYTES_MAX_DEFAULT;
use spore_bundle::{Bundle as Parts, DecodeError, PartsError, StateError};
use spore_client::{Bundle, BundleLimits, CallError, Host, OpenError};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, wall};
use spore_tests::module::{Raw, bundle_of};
use spore_tests::outcome::soon;
use spore_tests::plain as plain_bundle;

/// A whole file with code, manifest and state.
fn file() -> Vec<u8> {
    let (index, _) = plain_bundle()
        .inner()
        .callable("weigh")
        .expect("it is there");
    let captures = spore_value::codec::encode(&vec![7u8; 3_000]).expect("shallow");
    let bound = plain_bundle()
        .inner()
        .with_captures(index, captures)
        .expect("bytes");
    bound.encode()
}

/// The same of a guest of a few hundred bytes.
fn small_file() -> Vec<u8> {
    Raw::default().bundle().inner().encode()
}

/// Opens bytes as a file, as programs do.
fn open(bytes: &[u8]) -> Result<Bundle, DecodeError> {
    let folder = tempfile::tempdir().expect("a folder for tests");
    let path = folder.path().join("guest.spore");
    std::fs::write(&path, bytes).expect("written");
    match Bundle::open(&path) {
        Ok(bundle) => Ok(bundle),
        Err(error) => {
            assert!(
                error.to_string().contains("guest.spore"),
                "it names the file: {error}"
            );
            match error {
                OpenError::Decode { source, .. } => Err(source),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Where the section of this name begins, with its id, and its bytes.
fn section(file: &[u8], name: &str) -> (usize, Vec<u8>) {
    let sections = spore_bundle::sections::sections(file).expect("it is sound");
    let section = sections
        .iter()
        .find(|section| section.name.as_deref() == Some(name));
    let section = section.expect("it is there");
    (section.offset, file[section.contents.clone()].to_vec())
}

/// A custom section.
fn custom(name: &str, data: &[u8]) -> Vec<u8> {
    use wasm_encoder::Section as _;
    let mut bytes = Vec::new();
    wasm_encoder::CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to(&mut bytes);
    bytes
}

/// Numbers without a pattern, the same in each run.
fn noise() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15u64), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_that_is() {
    let file = small_file();
    assert!(open(&file).is_ok());
    for length in 0..file.len() {
        let cut = Bundle::from_bytes(file[..length].to_vec());
        assert!(cut.is_err(), "{length} bytes were taken for a bundle");
    }
    let file = self::file();
    for at in noise().take(100) {
        let length = at as usize % file.len();
        assert!(
            Bundle::from_bytes(file[..length].to_vec()).is_err(),
            "{length}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_makes_another_bundle_which_harms_nobody() {
    let limits = Limits {
        memory: 16 << 20,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let host = Host::embedded_with(setup).expect("the engine starts");
    let file = small_file();
    let id = Bundle::from_bytes(file.clone()).expect("it is whole").id();
    let code = section(&file, "spore.manifest").0;
    let mut others = 0;
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match Bundle::from_bytes(flipped) {
            Err(_) => {}
            Ok(_) if bit / 8 < code => panic!("bit {bit} of the code was not missed"),
            Ok(bundle) => {
                assert_ne!(bundle.id(), id, "bit {bit} went unseen");
                // Another manifest for the same code: a host decides what it can do with it.
                others += 1;
                for callable in &bundle.inner().manifest().callables {
                    let callable = bundle.callable(&callable.name).expect("it is there");
                    let arguments = serde_json::json!([""]);
                    let call = host.call(&callable, arguments).limits(wall(500));
                    let _ = soon("a call", call.into_future()).await;
                }
            }
        }
    }
    assert!(others > 0, "a name with another letter is a name");
    assert_serves(&host).await;
}

#[test]
fn random_bytes_are_no_bundle() {
    let bytes: Vec<u8> = noise().take(4_000).flat_map(u64::to_le_bytes).collect();
    for length in [0, 1, 7, 8, 9, 100, 32_000] {
        assert!(open(&bytes[..length]).is_err(), "{length}");
        let preamble = [b"\0asm\x01\0\0\0", &bytes[..length]].concat();
        assert!(open(&preamble).is_err(), "{length}");
    }
    for start in 0..1_000 {
        let mixed = [
            b"\0asm\x01\0\0\0",
            &custom("spore.manifest", &bytes[start..])[..],
        ]
        .concat();
        let error = Bundle::from_bytes(mixed).expect_err("noise");
        assert!(matches!(error, DecodeError::Manifest(_)), "{error:?}");
    }
}

#[test]
fn sections_that_lie_about_their_length_are_refused() {
    let file = file();
    let (at, manifest) = section(&file, "spore.manifest");
    let code = &file[..at];
    let with = |bytes: &[u8]| open(&[code, bytes].concat());
    let is_lie = |result: Result<Bundle, DecodeError>| {
        let error = result.expect_err("it lies");
        assert!(matches!(error, DecodeError::Sections(_)), "{error:?}");
    };
    // A section of 4 GiB, of one byte more than there is, and of a length without an end.
    let honest = custom("spore.manifest", &manifest);
    is_lie(with(
        &[&[0, 0xff, 0xff, 0xff, 0xff, 0x0f], &honest[..]].concat(),
    ));
    let longer = custom("spore.manifest", &[&manifest[..], &[0]].concat());
    is_lie(with(&longer[..longer.len() - 1]));
    is_lie(with(
        &[&[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], &honest[..]].concat(),
    ));
    // A name longer than its section.
    is_lie(with(&[0, 3, 100, b'a', b'b']));
    // A manifest that ends early or goes on.
    let short = with(&custom("spore.manifest", &manifest[..manifest.len() - 1]));
    assert!(matches!(short, Err(DecodeError::Manifest(_))), "{short:?}");
    let long = with(&custom("spore.manifest", &[&manifest[..], &[0]].concat()));
    assert!(matches!(long, Err(DecodeError::Manifest(_))), "{long:?}");
    // Two manifests, a state without a manifest, a section that comes too late.
    assert!(matches!(
        with(&[&honest[..], &honest].concat()),
        Err(DecodeError::DuplicateSection {
            name: "spore.manifest"
        })
    ));
    assert!(matches!(
        with(&custom("spore.state", &[])),
        Err(DecodeError::NoManifest)
    ));
    let late = [&file[..], &custom("other", &[])].concat();
    assert!(matches!(open(&late), Err(DecodeError::Order { .. })));
    let unknown = with(&[&custom("spore.later", &[]), &honest[..]].concat());
    assert!(matches!(unknown, Err(DecodeError::UnknownSection { name }) if name == "spore.later"));
}

#[test]
fn a_state_that_is_not_what_the_manifest_says_is_refused_before_it_is_decompressed() {
    let file = file();
    let (at, _) = section(&file, "spore.state");
    let with = |frame: &[u8]| open(&[&file[..at], &custom("spore.state", frame)].concat());
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 19).expect("compressed");
    // 64 MiB of nothing in a few kilobytes, where 3,002 bytes are announced.
    let bomb = packed(&vec![0; 64 << 20]);
    assert!(bomb.len() < 16 << 10);
    match with(&bomb) {
        Err(DecodeError::State(StateError::Size { frame, announced })) => {
            assert_eq!((frame, announced), (64 << 20, 3_003));
        }
        other => panic!("{other:?}"),
    }
    // A bomb that says it is small: its header has the announced size, its blocks have more.
    let announced = packed(&vec![7; 3_003]);
    let honest_header = &announced[..frame_header(&announced)];
    let blocks = &bomb[frame_header(&bomb)..];
    let liar = with(&[honest_header, blocks].concat());
    assert!(matches!(liar, Err(DecodeError::State(_))), "{liar:?}");
    // The right size and other bytes.
    let other = with(&packed(&vec![8; 3_003]));
    assert!(
        matches!(other, Err(DecodeError::Parts(PartsError::StateId { .. }))),
        "{other:?}"
    );
    for frame in [&b""[..], b"no zstd", &bomb[..100]] {
        assert!(matches!(with(frame), Err(DecodeError::State(_))));
    }
}

/// Bytes of a zstd frame's header: magic number, descriptor, window where there is one, size.
fn frame_header(frame: &[u8]) -> usize {
    let descriptor = frame[4];
    let single_segment = descriptor & 0x20 != 0;
    let size = match (descriptor >> 6, single_segment) {
        (0, true) => 1,
        (0, false) => 0,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    5 + usize::from(!single_segment) + size
}

#[test]
fn a_manifest_that_announces_a_huge_state_is_refused_by_the_announcement() {
    let file = file();
    let bundle = Bundle::from_bytes(file.clone()).expect("it is whole");
    let mut manifest = bundle.inner().manifest().clone();
    manifest.state.as_mut().expect("it has captures").bytes = 1 << 50;
    let manifest = manifest.encode().expect("it is sound by itself");
    let (at, _) = section(&file, "spore.manifest");
    let (_, state) = section(&file, "spore.state");
    let huge = [
        &file[..at],
        &custom("spore.manifest", &manifest),
        &custom("spore.state", &state),
    ];
    match open(&huge.concat()) {
        Err(DecodeError::Parts(PartsError::StateTooLarge { bytes, limit })) => {
            assert_eq!((bytes, limit), (1 << 50, STATE_BYTES_MAX_DEFAULT));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn code_or_state_of_another_bundle_is_refused() {
    let file = file();
    let (at, manifest) = section(&file, "spore.manifest");
    let raw = Raw::default().code();
    let swapped = open(&[&raw[..], &custom("spore.manifest", &manifest)].concat());
    assert!(
        matches!(
            swapped,
            Err(DecodeError::Parts(
                PartsError::CodeSize { .. } | PartsError::StateMissing { .. }
            ))
        ),
        "{swapped:?}"
    );
    // Without its state, and with a state where there is none.
    let (state_at, state) = section(&file, "spore.state");
    let stateless = open(&file[..state_at]);
    assert!(matches!(
        stateless,
        Err(DecodeError::Parts(PartsError::StateMissing { .. }))
    ));
    let small = small_file();
    let burdened = open(&[&small[..], &custom("spore.state", &state)].concat());
    assert!(matches!(
        burdened,
        Err(DecodeError::Parts(PartsError::StateUnannounced))
    ));
    // Wasm that is no bundle, and a file that is no Wasm.
    assert!(matches!(open(&file[..at]), Err(DecodeError::NoManifest)));
    assert!(matches!(open(b"MZ no Wasm"), Err(DecodeError::Sections(_))));
}

#[tokio::test]
async fn captures_of_another_type_in_a_file_are_the_guests_refusal() {
    let (index, _) = plain_bundle()
        .inner()
        .callable("weigh")
        .expect("it is there");
    let bound = plain_bundle()
        .inner()
        .with_captures(index, vec![0xff; 9])
        .expect("any bytes");
    let bundle = open(&Parts::encode(&bound)).expect("a file does not know types");
    let host = Host::embedded().expect("the engine starts");
    let weigh = bundle.callable(plain::weigh::HANDLE).expect("it is there");
    let weigh = weigh.bound().expect("it has captures");
    match host.call(&weigh, ()).await {
        Err(CallError::Refused(refused)) => {
            assert_eq!(refused.code, spore_client::RefusalCode::WrongCaptures);
        }
        other => panic!("{other:?}"),
    }
    assert_serves(&host).await;
}

#[test]
fn a_program_may_take_more_than_by_default_and_less() {
    let default = BundleLimits::default();
    let code = [
        Raw::default().code(),
        custom("padding", &vec![0; default.code_bytes_max as usize]),
    ]
    .concat();
    let code_bytes = code.len() as u64;
    let folder = tempfile::tempdir().expect("a folder for tests");
    let path = folder.path().join("large.spore");
    std::fs::write(&path, bundle_of(code).inner().encode()).expect("written");
    match Bundle::open(&path).expect_err("it is larger than usual") {
        OpenError::Decode {
            source: DecodeError::Parts(PartsError::CodeTooLarge { bytes, limit }),
            ..
        } => assert_eq!((bytes, limit), (code_bytes, default.code_bytes_max)),
        other => panic!("{other:?}"),
    }
    let more = BundleLimits {
        code_bytes_max: code_bytes,
        ..default
    };
    Bundle::open_with(&path, &more).expect("as large as may be");

    let whole = Bundle::from_bytes(file()).expect("it is whole");
    let state_bytes = whole.inner().state().expect("captures").len() as u64;
    let less = |state_bytes_max| BundleLimits {
        state_bytes_max,
        ..default
    };
    Bundle::from_bytes_with(file(), &less(state_bytes)).expect("as large as may be");
    let error = Bundle::from_bytes_with(file(), &less(state_bytes - 1)).expect_err("one too many");
    assert!(
        matches!(
            error,
            DecodeError::Parts(PartsError::StateTooLarge { bytes, limit })
                if (bytes, limit) == (state_bytes, state_bytes - 1)
        ),
        "{error:?}"
    );
}
