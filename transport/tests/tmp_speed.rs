use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;
use bytes::Bytes;
use spore_transport::message::*;
use spore_transport::quic::Options;
use spore_transport::*;
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
fn call(args_bytes: u64) -> Message {
    Message::Call(Call { bundle: BlobId([7; 32]), callable: 1, limits: CallLimits::default(), seed: 2, args_bytes })
}
fn done(payload_bytes: u64) -> Message {
    Message::Done(Done { index: 0, outcome: Outcome::Value, timing: Timing::default(), output_cut: false, payload_bytes })
}
#[test]
fn speed() {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async move {
            let listener = Listener::bind(LOCAL, &Identity::generate(), &Options::default()).unwrap();
            tx.send(listener.local_address().unwrap()).unwrap();
            let conn = listener.accept().await.unwrap().accept().await.unwrap();
            while let Ok(stream) = conn.accept().await {
                tokio::spawn(async move {
                    let (mut s, mut r) = stream.split();
                    let Ok(Received::Message(Message::Call(c))) = r.recv().await else { return };
                    let mut left = c.args_bytes as usize;
                    let mut v = Vec::with_capacity(left);
                    while left > 0 {
                        match r.recv().await { Ok(Received::Data(d)) => { left -= d.len(); v.extend_from_slice(&d); }, _ => return }
                    }
                    let n = if v.len() > 1000 { 0 } else { v.len() };
                    v.truncate(n);
                    s.queue(&done(n as u64));
                    s.queue_payload(v.into());
                    let _ = s.finish().await;
                });
            }
        });
    });
    let addr = rx.recv().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async move {
        let c = Connector::new(&Identity::generate(), &Options::default()).unwrap();
        let conn = c.connect(addr).await.unwrap();
        let one = |p: Bytes| { let conn = conn.clone(); async move {
            let (mut s, mut r) = conn.open().await.unwrap().split();
            s.queue(&call(p.len() as u64));
            s.queue_payload(p);
            s.flush().await.unwrap();
            let Received::Message(Message::Done(d)) = r.recv().await.unwrap() else { panic!() };
            let mut left = d.payload_bytes;
            while left > 0 { if let Received::Data(b) = r.recv().await.unwrap() { left -= b.len() as u64 } }
            let _ = s.finish().await;
        }};
        let big = Bytes::from(vec![7u8; 64 << 20]);
        for _ in 0..4 {
            let t = Instant::now();
            one(big.clone()).await;
            eprintln!("64 MiB: {:.0} MiB/s", 64.0 / t.elapsed().as_secs_f64());
        }
        let small = Bytes::from(vec![1u8; 64]);
        for _ in 0..3 {
            let t = Instant::now();
            for _ in 0..2000 { one(small.clone()).await; }
            eprintln!("one at a time: {:.1} us", t.elapsed().as_secs_f64() * 1e6 / 2000.0);
        }
        for _ in 0..3 {
            let t = Instant::now();
            let tasks: Vec<_> = (0..64).map(|_| { let one = one.clone(); let small = small.clone(); tokio::spawn({ let f: Vec<_> = (0..200).map(|_| one(small.clone())).collect(); async move { for x in f { x.await } } }) }).collect();
            for t in tasks { t.await.unwrap(); }
            eprintln!("64 in flight: {:.0} calls/s", 12800.0 / t.elapsed().as_secs_f64());
        }
    });
}
