//! The task behind a client: moves what happens to the machine, and what it decides to the world.
//!
//! It decides nothing itself. What it owns: the connection, the writer's channel, and who waits for
//! which answer.

use crate::entry::{Event, State, TypingChanged};
use crate::hub::lock;
use crate::machine::{Answer, Command, Failed, Input, Machine, Output, Request, Told};
use crate::shared::{Order, Outcome, Shared};
use crate::transport::{Happened, Link, Lost, Opened, Transport};
use crate::writer::{Job, Written};
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

type Connecting<L> = Pin<Box<dyn Future<Output = Result<(L, Opened), Lost>> + Send>>;

/// The task.
pub(crate) struct Driver<T: Transport> {
    transport: Arc<T>,
    machine: Machine,
    shared: Arc<Shared>,
    jobs: Option<std::sync::mpsc::Sender<Job>>,
    connecting: Option<Connecting<T::Link>>,
    link: Option<T::Link>,
    /// What carrying out something led to.
    inputs: VecDeque<Input>,
    answers: BTreeMap<Request, oneshot::Sender<Result<Answer, Failed>>>,
    outcomes: BTreeMap<(String, String), Outcome>,
    next_request: Request,
    begun: Instant,
    closed: bool,
}

impl<T: Transport> Driver<T> {
    pub(crate) fn new(
        transport: T,
        machine: Machine,
        shared: Arc<Shared>,
        jobs: std::sync::mpsc::Sender<Job>,
    ) -> Self {
        Self {
            transport: Arc::new(transport),
            machine,
            shared,
            jobs: Some(jobs),
            connecting: None,
            link: None,
            inputs: VecDeque::from([Input::TimedOut]),
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next_request: 0,
            begun: Instant::now(),
            closed: false,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut written: mpsc::UnboundedReceiver<Written>,
    ) {
        let mut out = Vec::new();
        while !self.closed {
            while let Some(input) = self.inputs.pop_front() {
                self.machine.handle(input, self.begun.elapsed(), &mut out);
                for output in out.drain(..) {
                    self.carry_out(output);
                }
            }
            self.shared.unanswered.store(self.machine.unanswered(), Ordering::Relaxed);
            if self.closed {
                break;
            }
            let hour = Duration::from_secs(3_600);
            let timeout = self.machine.next_timeout();
            let timeout = timeout.unwrap_or_else(|| self.begun.elapsed() + hour);
            let (link, connecting) = (&mut self.link, &mut self.connecting);
            tokio::select! {
                happened = async { match link {
                    Some(link) => link.next().await,
                    None => pending().await,
                }} => match happened {
                    Ok(happened) => self.happened(happened),
                    Err(lost) => self.lost(lost),
                },
                connected = async { match connecting {
                    Some(connecting) => connecting.await,
                    None => pending().await,
                }} => {
                    self.connecting = None;
                    match connected {
                        Ok((link, opened)) => {
                            self.link = Some(link);
                            self.inputs.push_back(Input::Opened(opened));
                        }
                        Err(lost) => self.lost(lost),
                    }
                }
                Some(order) = orders.recv() => self.order(order),
                Some(written) = written.recv() => self.inputs.push_back(match written {
                    Ok(position) => Input::Stored(position),
                    Err(cause) => Input::NotStored(cause),
                }),
                () = self.shared.wake.notified() => self.look(),
                () = tokio::time::sleep_until(self.begun + timeout) => {
                    self.inputs.push_back(Input::TimedOut);
                }
            }
        }
        // Orders that came too late, and those that nobody will answer now, see their sender go.
        drop((orders, std::mem::take(&mut self.answers), std::mem::take(&mut self.outcomes)));
        self.jobs = None;
        // The writer lets go of the store before it lets go of this.
        while written.recv().await.is_some() {}
        self.shared.end();
    }

    fn happened(&mut self, happened: Happened) {
        self.inputs.push_back(match happened {
            Happened::Alive => return,
            Happened::Received { topic, payload, number } => {
                Input::Received { topic, payload, packet: number }
            }
            Happened::Acknowledged { token, reason, text, properties } => {
                Input::Acknowledged { token, reason, text, properties }
            }
            Happened::Subscribed { filter, refused } => Input::Subscribed { filter, refused },
        });
    }

    fn lost(&mut self, lost: Lost) {
        self.link = None;
        self.inputs.push_back(Input::Lost(lost));
    }

    fn order(&mut self, order: Order) {
        let Order { command, answer, outcome } = order;
        self.next_request += 1;
        if let Some(answer) = answer {
            self.answers.insert(self.next_request, answer);
        }
        if let (Some(outcome), Command::Do(errand)) = (outcome, &command) {
            self.outcomes.insert((errand.chat.clone(), errand.id.clone()), outcome);
        }
        self.inputs.push_back(Input::Command(self.next_request, command));
    }

    fn tell(&mut self, command: Command) {
        self.next_request += 1;
        self.inputs.push_back(Input::Command(self.next_request, command));
    }

    /// What the handles changed without an order.
    fn look(&mut self) {
        for (chat, seq) in self.shared.inbox.take_taken() {
            self.tell(Command::Taken { chat, seq });
        }
        let mut changed = Vec::new();
        lock(&self.shared.watched).retain(|user, watched| {
            let deserted = watched.hub.is_deserted();
            if deserted || !std::mem::replace(&mut watched.told, true) {
                changed.push((user.clone(), !deserted));
            }
            !deserted
        });
        for (user, watch) in changed {
            self.tell(Command::Watch { user, watch });
        }
        if self.shared.is_closing() {
            self.tell(Command::Close);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let done = match output {
            Output::Connect { keep_alive } => {
                let transport = Arc::clone(&self.transport);
                self.connecting =
                    Some(Box::pin(async move { transport.connect(keep_alive).await }));
                return;
            }
            Output::Cut => {
                (self.link, self.connecting) = (None, None);
                return;
            }
            Output::Write { position, changes } => {
                // A writer that is gone has said why.
                let job = self.jobs.as_ref().map(|jobs| jobs.send((position, changes)));
                if !matches!(job, Some(Ok(()))) {
                    let cause = "the writer has ended".to_owned();
                    self.inputs.push_back(Input::NotStored(cause));
                }
                return;
            }
            Output::Answer(request, answer) => {
                if let Some(waiting) = self.answers.remove(&request) {
                    // Nobody listening means that the application gave up waiting.
                    let _ = waiting.send(answer);
                }
                return;
            }
            Output::Tell(told) => return self.told(told),
            Output::Closed => {
                self.closed = true;
                return;
            }
            Output::Disconnect => {
                if let Some(link) = &mut self.link {
                    link.disconnect();
                }
                return;
            }
            Output::Publish(publish) => self.link.as_mut().map(|link| link.publish(publish)),
            Output::Subscribe { filter, subscribe } => {
                self.link.as_mut().map(|link| link.subscribe(&filter, subscribe))
            }
            Output::Acknowledge(packet) => self.link.as_mut().map(|link| link.acknowledge(packet)),
        };
        if let Some(Err(lost)) = done {
            self.lost(lost);
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Event(event) => {
                if let Event::State(state) = &event
                    && *state != State::Closed
                {
                    self.shared.state.send_replace(state.clone());
                }
                self.shared.events.tell(&event);
            }
            Told::Chat(standing) => self.shared.handle_standing(*standing),
            Told::Receipt(receipt) => self.shared.receipts.tell(&receipt),
            Told::Typing { chat, user, state } => {
                self.shared.typing.tell(&TypingChanged { chat, user, state });
            }
            Told::Presence(presence) => {
                if let Some(watched) = lock(&self.shared.watched).get_mut(&presence.user) {
                    watched.hub.tell(&presence);
                    watched.last = Some(presence);
                }
            }
            Told::Outcome { chat, id, result } => {
                let waiting = self.outcomes.remove(&(chat.clone(), id.clone()));
                // A room was called `~` when its name was not known yet.
                let waiting =
                    waiting.or_else(|| self.outcomes.remove(&("~".to_owned(), id.clone())));
                let unheard = match waiting {
                    Some(waiting) => waiting.send(result).err(),
                    None => Some(result),
                };
                match unheard {
                    None => {}
                    Some(Ok(seq)) => self.shared.events.tell(&Event::Stored { chat, id, seq }),
                    Some(Err(refusal)) => {
                        self.shared.events.tell(&Event::NotStored { chat, id, refusal });
                    }
                }
            }
        }
    }
}
