//! Requests about jobs.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spore_bundle::{Bundle, BundleId, DifferenceError, DifferenceReader, PartsError};
use spore_transport::BlobId;
use spore_transport::RefusalCode;
use spore_transport::exchange::{DIFFERENCE_BYTES_MAX, HostEvent};
use spore_transport::job::{
    Difference, JobAcknowledge, JobArrive, JobCancel, JobChanged, JobForgotten, JobLeave, JobMove,
    JobOffer, JobOpen, JobPause, JobRefused, JobResult, JobResume, JobSave, JobStart, JobWatch,
    Jobs,
};
use spore_transport::message::{BlobKind, Encoding, Message, Output, Progress, Refused, Timing};
use spore_transport::packing;

use super::loading::refuse_parts;
use super::stream::{End, Serving};
use crate::code::chain;
use crate::events::{Finished, Outcome};
use crate::host::{Left, job_saved};
use crate::job::{JobEvent, JobRequest};
use crate::limits::nanos;

impl Serving {
    pub(super) async fn job_start(&mut self, start: JobStart) -> Result<(), End> {
        let began = Instant::now();
        let call = start.call;
        let key = self.peer.caller.state.clone();
        let room = key.arguments.take(call.args_bytes);
        let _room = self.wait_unread(room).await?;
        let arguments = self.arguments(call.args_bytes).await?;
        let bundle = self.bundle(call.bundle).await?;
        let request = JobRequest {
            callable: call.callable,
            arguments,
            limits: call.limits,
            seed: call.seed,
            persist: start.persist,
            timing: Timing {
                transfer_ns: nanos(began.elapsed()),
                ..Timing::default()
            },
        };
        let peer = self.peer.clone();
        let starting = async move { peer.host.start_job(&peer.caller, &bundle, request).await };
        let started = self.wait_for(starting).await??;
        self.answer(Message::JobStarted(started)).await
    }

    pub(super) async fn job_open(&mut self, open: JobOpen) -> Result<(), End> {
        let bundle = self.bundle(open.bundle).await?;
        let peer = self.peer.clone();
        let opening = async move {
            let JobOpen {
                limits,
                persist,
                paused,
                ..
            } = open;
            let host = &peer.host;
            host.open_job(&peer.caller, &bundle, &limits, persist, paused)
                .await
        };
        let started = self.wait_for(opening).await??;
        self.answer(Message::JobStarted(started)).await
    }

    /// The bundle itself, from the store or from the client.
    async fn bundle(&mut self, id: BlobId) -> Result<Bundle, End> {
        let _turn = self.turn_to_load().await?;
        let named = self.manifest(id).await?;
        self.obtain(&named.parts).await?;
        let bundle = self.assemble(&named, self.known_code(&named)).await?;
        self.forget_arrived();
        Ok(bundle)
    }

    pub(super) async fn job_list(&mut self) -> Result<(), End> {
        let jobs = self.peer.host.jobs(&self.peer.caller);
        self.answer(Message::Jobs(Jobs { jobs }.cut())).await
    }

    /// Passes on what a job says, until it ends or the client has enough.
    pub(super) async fn job_watch(&mut self, watch: JobWatch) -> Result<(), End> {
        let JobWatch { job, items } = watch;
        let (watched, mut watching) = self.peer.host.watch_job(&self.peer.caller, job, items)?;
        // The callable may emit none.
        if items.is_some() && watched.items_from.is_none() {
            return Err(Refused::new(RefusalCode::Unsupported, "the job emits no items").into());
        }
        self.send(Message::JobWatched(watched.cut())).await?;
        loop {
            tokio::task::consume_budget().await;
            let next = watching.next();
            let event = tokio::select! {
                biased;
                event = self.peer.relay.through(next) => event,
                received = self.receiver.recv() => {
                    match self.exchange.receive(received?)? {
                        HostEvent::Taken { below } => watching.taken(below),
                        HostEvent::Cancel => {
                            return Err(Refused::new(RefusalCode::Cancelled, "").into());
                        }
                        _ => {}
                    }
                    continue;
                }
            };
            match event {
                JobEvent::Output(stream, bytes) => {
                    let index = 0;
                    let output = Output {
                        index,
                        stream,
                        bytes,
                    };
                    self.send(Message::Output(output)).await?;
                }
                JobEvent::Progress(done, total) => {
                    let index = 0;
                    let progress = Progress { index, done, total };
                    self.send(Message::Progress(progress)).await?;
                }
                JobEvent::Changed(changed) => self.send(Message::JobChanged(changed)).await?,
                JobEvent::Item(sequence, item) => self.item(sequence, item).await?,
                JobEvent::Over(why) => return Err(why.into()),
                JobEvent::Ended(finished) => return self.job_ending(finished).await,
            }
        }
    }

    pub(super) async fn job_pause(&mut self, pause: JobPause) -> Result<(), End> {
        let peer = self.peer.clone();
        let within = Duration::from_millis(pause.within_ms);
        let pausing = async move { peer.host.pause_job(&peer.caller, pause.job, within).await };
        let changed = self.wait_for(pausing).await??;
        self.job_changed(changed).await
    }

    pub(super) async fn job_resume(&mut self, resume: JobResume) -> Result<(), End> {
        let peer = self.peer.clone();
        let resuming = async move { peer.host.resume_job(&peer.caller, resume.job).await };
        let changed = self.wait_for(resuming).await??;
        self.job_changed(changed).await
    }

    pub(super) async fn job_cancel(&mut self, cancel: JobCancel) -> Result<(), End> {
        let peer = self.peer.clone();
        let cancelling = async move { peer.host.cancel_job(&peer.caller, cancel.job).await };
        let changed = self.wait_for(cancelling).await??;
        self.job_changed(changed).await
    }

    async fn job_changed(&mut self, changed: JobChanged) -> Result<(), End> {
        self.answer(Message::JobChanged(changed)).await
    }

    pub(super) async fn job_save(&mut self, save: JobSave) -> Result<(), End> {
        let peer = self.peer.clone();
        let within = Duration::from_millis(save.within_ms);
        let saving = async move { peer.host.save_job(&peer.caller, save.job, within).await };
        let saved = self.wait_for(saving).await??;
        self.answer(Message::JobSaved(job_saved(&saved))).await
    }

    pub(super) async fn job_result(&mut self, result: JobResult) -> Result<(), End> {
        let peer = self.peer.clone();
        let JobResult { job, wait } = result;
        let ending = async move { peer.host.job_result(&peer.caller, job, wait).await };
        let finished = self.wait_for(ending).await??;
        self.job_ending(finished).await
    }

    /// Sends how a job has ended. What the job was refused is not about this request.
    async fn job_ending(&mut self, finished: Finished) -> Result<(), End> {
        let Outcome::Refused(refused) = finished.outcome else {
            return self.outcome(finished).await;
        };
        self.queue(&Message::JobRefused(JobRefused { refused }));
        self.payload(Bytes::new()).await
    }

    pub(super) async fn job_acknowledge(&mut self, done: JobAcknowledge) -> Result<(), End> {
        let job = done.job;
        let peer = self.peer.clone();
        let forgetting = async move { peer.host.acknowledge_job(&peer.caller, job).await };
        self.wait_for(forgetting).await??;
        self.answer(Message::JobForgotten(JobForgotten { job }))
            .await
    }

    pub(super) async fn job_offer(&mut self, offer: JobOffer) -> Result<(), End> {
        // Before anything of it is taken.
        self.peer.host.may_offer(&self.peer.caller, &offer)?;
        self.keeps_code_alone = true;
        let bundle = match offer.bundle {
            Some(id) => Some(self.bundle(id).await?),
            None => None,
        };
        let peer = self.peer.clone();
        let offering = async move { peer.host.offer_job(&peer.caller, &offer, bundle).await };
        let offered = self.wait_for(offering).await??;
        self.answer(Message::JobOffered(offered)).await
    }

    pub(super) async fn job_leave(&mut self, leave: JobLeave) -> Result<(), End> {
        let peer = self.peer.clone();
        let leaving = async move { peer.host.leave_job(&peer.caller, &leave).await };
        let Left {
            mut left,
            difference,
            room: _room,
        } = self.wait_for(leaving).await??;
        let (Some(since), Some(difference)) = (leave.since, difference) else {
            return self.answer(Message::JobLeft(left)).await;
        };
        let raw_bytes = difference.len() as u64;
        let announced = |encoding, wire_bytes| Difference {
            since,
            encoding,
            raw_bytes,
            wire_bytes,
        };
        if self.peer.near {
            left.difference = Some(announced(Encoding::Raw, raw_bytes));
            self.queue(&Message::JobLeft(left));
            return self.payload_of(difference.into_pieces()).await;
        }
        let (encoding, packed) = self
            .beside(move || packing::pack(difference.into_bytes()))
            .await?;
        left.difference = Some(announced(encoding, packed.len() as u64));
        self.queue(&Message::JobLeft(left));
        self.payload(packed).await
    }

    pub(super) async fn job_arrive(&mut self, arrive: JobArrive) -> Result<(), End> {
        // Before anything of it is taken.
        self.peer.host.may_arrive(&self.peer.caller, &arrive)?;
        self.keeps_code_alone = true;
        let bundle = match self.by_difference(&arrive).await? {
            Some(bundle) => bundle,
            None => self.bundle(arrive.bundle).await?,
        };
        let items = match arrive.terms.items {
            Some(id) => {
                self.obtain(&[(id, BlobKind::Items)]).await?;
                let gone = || Refused::new(RefusalCode::BlobAbsent, id.to_string());
                let blob = self.read(id).await?.ok_or_else(gone)?;
                self.forget_arrived();
                Some(blob.bytes().clone())
            }
            None => None,
        };
        let peer = self.peer.clone();
        let arriving = async move {
            let host = &peer.host;
            host.arrive_job(&peer.caller, &arrive, &bundle, items).await
        };
        let moved = self.wait_for(arriving).await??;
        self.answer(Message::JobMoved(moved)).await
    }

    /// The bundle of a job that comes, from how it differs from what came ahead. Nothing if that is not
    /// here any more.
    async fn by_difference(&mut self, arrive: &JobArrive) -> Result<Option<Bundle>, End> {
        let Some(difference) = arrive.difference else {
            return Ok(None);
        };
        let Difference {
            encoding,
            raw_bytes,
            wire_bytes,
            ..
        } = difference;
        let key = self.peer.caller.state.clone();
        let room = key.arguments.take(raw_bytes + wire_bytes);
        let _room = self.wait_unread(room).await?;
        let mut came = Coming::of(encoding);
        self.pieces(wire_bytes, |piece| came.push(piece)).await?;
        let [id, since] = [arrive.bundle, difference.since].map(|id| BundleId::from(id.0));
        let offered = self.peer.host.offered_jobs(&self.peer.caller);
        let Some(since) = offered.into_iter().find(|bundle| bundle.id() == since) else {
            return Ok(None);
        };
        let _turn = self.turn_to_load().await?;
        let limits = self.bundle_limits();
        let made = move || {
            let difference = came.finish(raw_bytes)?;
            let made = Bundle::from_difference(&since, id, difference, &limits);
            made.map_err(|error| refuse_difference(&error))
        };
        Ok(Some(self.beside(made).await??))
    }

    pub(super) async fn job_move(&mut self, step: JobMove) -> Result<(), End> {
        let peer = self.peer.clone();
        let moving = async move { peer.host.move_job(&peer.caller, &step).await };
        let moved = self.wait_for(moving).await??;
        self.answer(Message::JobMoved(moved)).await
    }
}

const _: () = assert!(spore_bundle::DIFFERENCE_BYTES_MAX as u64 == DIFFERENCE_BYTES_MAX);

/// A difference on its way.
enum Coming {
    Raw(Result<DifferenceReader, DifferenceError>),
    Packed(BytesMut),
}

impl Coming {
    fn of(encoding: Encoding) -> Coming {
        match encoding {
            Encoding::Raw => Coming::Raw(Ok(DifferenceReader::default())),
            Encoding::Zstd => Coming::Packed(BytesMut::new()),
        }
    }

    fn push(&mut self, piece: &[u8]) {
        match self {
            Coming::Raw(reading) => {
                if let Ok(reader) = reading
                    && let Err(error) = reader.push(piece)
                {
                    *reading = Err(error);
                }
            }
            Coming::Packed(bytes) => bytes.extend_from_slice(piece),
        }
    }

    fn finish(self, raw_bytes: u64) -> Result<spore_bundle::Difference, Refused> {
        let reading = match self {
            Coming::Raw(reading) => reading,
            Coming::Packed(bytes) => {
                let raw = packing::unpack(Encoding::Zstd, bytes.freeze(), raw_bytes);
                let raw = raw.ok_or_else(|| Refused::new(RefusalCode::BlobEncoding, ""))?;
                let mut reader = DifferenceReader::default();
                reader.push(&raw).map(|()| reader)
            }
        };
        let difference = reading.and_then(DifferenceReader::finish);
        difference.map_err(|error| refuse_difference(&error))
    }
}

fn refuse_difference(error: &DifferenceError) -> Refused {
    match error {
        DifferenceError::OtherBundle { .. }
        | DifferenceError::Parts(PartsError::CodeId { .. } | PartsError::StateId { .. }) => {
            Refused::new(RefusalCode::BlobMismatch, chain(error))
        }
        DifferenceError::Parts(error) => refuse_parts(error),
        _ => Refused::new(RefusalCode::Malformed, chain(error)),
    }
}
