//! What the replicas of a cluster say to each other: all that is sent in a round arrives in the next one.

/// A library's message, and its bytes by the library's own codec.
pub(crate) trait Wire: Sized {
    /// What a receiver reads a stream with.
    type Reader: Default;

    /// The replica that it is for, from 0.
    fn destination(&self) -> usize;

    /// Appends it to a stream.
    fn write(&self, stream: &mut Vec<u8>);

    /// Reads all messages of a stream, after copying its bytes once into memory of the receiver's, as a socket does.
    fn read(reader: &mut Self::Reader, stream: &[u8], inbox: &mut Vec<Self>);
}

/// One mailbox a replica.
pub(crate) struct Network<M: Wire> {
    mailboxes: Vec<Mailbox<M>>,
    encoded: bool,
    messages: u64,
}

struct Mailbox<M: Wire> {
    /// Sent in this round, and in the one before: messages, or their bytes.
    sent: Vec<M>,
    arrived: Vec<M>,
    sent_bytes: Vec<u8>,
    arrived_bytes: Vec<u8>,
    reader: M::Reader,
}

impl<M: Wire> Network<M> {
    pub(crate) fn new(replicas: usize, encoded: bool) -> Self {
        Self { mailboxes: (0..replicas).map(|_| Mailbox::default()).collect(), encoded, messages: 0 }
    }

    pub(crate) fn send(&mut self, message: M) {
        self.messages += 1;
        let mailbox = &mut self.mailboxes[message.destination()];
        if self.encoded {
            message.write(&mut mailbox.sent_bytes);
        } else {
            mailbox.sent.push(message);
        }
    }

    /// What was sent arrives.
    pub(crate) fn turn(&mut self) {
        for mailbox in &mut self.mailboxes {
            std::mem::swap(&mut mailbox.sent, &mut mailbox.arrived);
            std::mem::swap(&mut mailbox.sent_bytes, &mut mailbox.arrived_bytes);
        }
    }

    /// What has arrived at a replica; the buffer is to be given back empty.
    pub(crate) fn take(&mut self, at: usize) -> Vec<M> {
        let mailbox = &mut self.mailboxes[at];
        if !mailbox.arrived_bytes.is_empty() {
            M::read(&mut mailbox.reader, &mailbox.arrived_bytes, &mut mailbox.arrived);
            mailbox.arrived_bytes.clear();
        }
        std::mem::take(&mut mailbox.arrived)
    }

    pub(crate) fn give_back(&mut self, at: usize, inbox: Vec<M>) {
        self.mailboxes[at].arrived = inbox;
    }

    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }
}

impl<M: Wire> Default for Mailbox<M> {
    fn default() -> Self {
        Self {
            sent: Vec::new(),
            arrived: Vec::new(),
            sent_bytes: Vec::new(),
            arrived_bytes: Vec::new(),
            reader: M::Reader::default(),
        }
    }
}
