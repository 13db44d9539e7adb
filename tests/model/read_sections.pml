/* Read sections and the reuse of slots: a block moves between slots while clients read it in place.
 * The protocol of proto/wire/section_protocol.h; a label that begins with k is the ProtocolPoint of that name
 * there, before the step that follows it.
 *
 * Spin interleaves sequentially consistent steps, so each client and the engine have a store buffer of their
 * own: a store goes into it, stores reach memory later, in their order, at any time, and a load sees the
 * youngest store of its own to that word and memory otherwise (x86-TSO). A fence waits until the buffer is empty.
 *
 * What must hold, each by the name of its assertion:
 *   rewritten_in_section   a slot is rewritten although a reader inside a section has its address
 *   read_of_rewritten      a reader inside a section reads a slot that somebody else's bytes are in
 *   held_for_ever          no reader is left, and a retired slot is still not free
 *
 * A client ends in two events: its socket is closed (by its end, or by a thread of its own while another one
 * reads on), and its process ends. A client that is killed is one that takes no step between the two. The
 * engine learns both at once: later would mean that it keeps more. The daemon may stop at any step; its memory
 * stays with who has mapped it, and the next daemon has memory of its own and starts at the first epoch. A client
 * goes on with the old memory until it happens to attach anew.
 *
 * The engine looks at the places of a client that are marked as used. A client marks a place before the fence of
 * its first section there, never takes the mark back, and so the engine sees it wherever it has to see a section:
 * here all are marked from the start. section_stepping_test.cc marks them, and finds a mark that comes too late.
 *
 * Bounds of the two whole searches (model_test.py): 2 clients of 2 sections each, 3 slots, buffers of 3 stores (a
 * client never has more than 2; the engine's 3 are those of one move).
 *   moves:   3 moves, any time between them and reuse: 9,085,608 states
 *   restart: 1 move by each of two daemons:            6,015,598 states
 *
 * Bugs to seed: -DNO_READER_FENCE -DNO_ENGINE_FENCE -DSCAN_BEFORE_UNPUBLISH -DREUSE_AT_EOF
 * -DTAG_BEFORE_EPOCH -DGOODBYE_IN_SECTION -DNEVER_GONE; -DONLY_READS leaves the first assertion out.
 */
#ifndef SECTIONS
#define SECTIONS 2 /* by each client */
#endif
#ifndef MOVES
#define MOVES 2 /* by the first daemon */
#endif
#ifndef MOVES_AFTER
#define MOVES_AFTER 1 /* by the one after the restart; 255: there is no restart */
#endif
#ifndef SLOTS
#define SLOTS 3 /* one retired while another one is */
#endif
#ifndef DEPTH
#define DEPTH 3
#endif

#define CLIENTS 2
#define DAEMONS 2
#define FIRST_EPOCH 1
#define NO_SECTION 255

/* Words of one daemon's memory. An entry of the relocation log and the log's end are one word here: they are
 * stored one after the other and read in the opposite order. */
#define WORD 0 /* the slot where the block is */
#define LOG 1 /* the slot of the last move */
#define EPOCH 2
#define SECTION 3 /* + client: 0, or the epoch at entry */
#define WORDS (SECTION + CLIENTS)
byte memory[DAEMONS * WORDS];
#define at(daemon, word) ((daemon) * WORDS + (word))

#define ENGINE CLIENTS /* its buffer, after those of the clients */
typedef Buffer {
  byte used;
  byte word[DEPTH];
  byte value[DEPTH]
};
Buffer buffer[CLIENTS + 1];

bool valid[DAEMONS * SLOTS]; /* the slot has the published bytes */
byte holds[CLIENTS]; /* 0, or 1 + the place in valid whose address the client has, inside a section */
bool eof[CLIENTS]; /* its socket is closed */
bool ended[CLIENTS]; /* its process handle says so */
bool goodbye[CLIENTS]; /* it said that it has nothing mapped any more */
chan end_process[CLIENTS] = [0] of { bit }; /* takes the client out of whatever it does */
chan end_daemon = [0] of { bit };
byte finished; /* clients without another section */
byte current; /* the daemon that runs */

byte i, j; /* scratch of one step; 0 between steps */
bool rewritten_in_section, read_of_rewritten, held_for_ever;

inline store(who, a, v) {
  atomic {
    buffer[who].used < DEPTH;
    d_step {
      buffer[who].word[buffer[who].used] = a;
      buffer[who].value[buffer[who].used] = v;
      buffer[who].used++
    }
  }
}

inline load(who, a, v) {
  d_step {
    v = memory[a];
    i = 0;
    do
    :: i < buffer[who].used ->
       if
       :: buffer[who].word[i] == a -> v = buffer[who].value[i]
       :: else
       fi;
       i++
    :: else -> break
    od;
    i = 0
  }
}

#define fence(who) buffer[who].used == 0

/* The oldest store of a buffer reaches memory. */
inline flush(who) {
  d_step {
    buffer[who].used > 0;
    memory[buffer[who].word[0]] = buffer[who].value[0];
    buffer[who].used--;
    i = 0;
    do
    :: i < buffer[who].used ->
       buffer[who].word[i] = buffer[who].word[i + 1];
       buffer[who].value[i] = buffer[who].value[i + 1];
       i++
    :: else -> break
    od;
    buffer[who].word[i] = 0;
    buffer[who].value[i] = 0;
    i = 0
  }
}

proctype Hardware(byte who) {
end:
  do
  :: flush(who)
  od
}

inline store_section(value_) {
  if
  :: atomic { daemon == current -> store(me, at(daemon, SECTION + me), value_) }
  :: daemon != current /* nobody reads it */
  fi
}

proctype Client(byte me) {
  byte daemon, epoch, slot, sections;
  {
    do
    :: sections == SECTIONS -> break
    :: atomic {
         sections < SECTIONS ->
         sections++;
         if
         :: daemon = current /* attached to whoever runs */
         :: daemon != current /* not noticed yet */
         fi
       }
kReaderLoadEpoch:
       load(me, at(daemon, EPOCH), epoch);
kReaderStoreSection:
       store_section(epoch);
kReaderFence:
#ifndef NO_READER_FENCE
       fence(me);
#endif
kReaderResolve:
       atomic {
         epoch = 0;
         if
         :: load(me, at(daemon, WORD), slot)
         :: load(me, at(daemon, LOG), slot) /* a block table patched from the log */
         fi;
         holds[me] = 1 + daemon * SLOTS + slot;
         slot = 0
       }
kReaderRead:
#ifdef GOODBYE_IN_SECTION
       goodbye[me] = true;
#endif
       d_step {
         read_of_rewritten = !valid[holds[me] - 1];
         assert(!read_of_rewritten)
       }
kReaderLeave:
       atomic {
         store_section(0);
         holds[me] = 0
       }
    od;
kEngineReaderGoodbye:
    goodbye[me] = true
  } unless {
    atomic { end_process[me] ? _ -> holds[me] = 0; daemon = 0; epoch = 0; slot = 0 };
    atomic { buffer[me].used == 0 -> ended[me] = true }
  };
  atomic { daemon = 0; sections = 0; finished++ }
}

/* What becomes of a client. Whatever it stored before its end is in memory by then: a processor that
 * leaves a process for good has emptied its buffer. */
proctype Fate(byte me) {
end_of_socket:
kEngineReaderEof:
  eof[me] = true;
end_of_process:
kEngineReaderEnd:
  end_process[me] ! 0
}

#ifdef REUSE_AT_EOF
#define gone(client) eof[client]
#elif defined(NEVER_GONE)
#define gone(client) false
#else
#define gone(client) (eof[client] && (ended[client] || goodbye[client]))
#endif

/* `oldest` becomes the least epoch of an open section. */
inline scan(client) {
  d_step {
    section = memory[at(daemon, SECTION + client)]; /* the engine stores no such word */
    if
    :: section != 0 && section < oldest && !gone(client) -> oldest = section
    :: else
    fi;
    section = 0
  }
}

inline fence_and_scan() {
  d_step { oldest = NO_SECTION; alone = finished == CLIENTS && buffer[0].used + buffer[1].used == 0 };
kEngineFence:
#ifndef NO_ENGINE_FENCE
  fence(ENGINE);
#endif
kEngineScan:
  scan(0);
  scan(1)
}

/* What no open section can hold is somebody else's from here on. */
inline reuse() {
  d_step {
    held_for_ever = false;
    i = 0;
    do
    :: i < SLOTS ->
       if
       :: tag[i] != 0 && tag[i] <= oldest ->
          tag[i] = 0;
          valid[daemon * SLOTS + i] = false;
          j = 0;
          do
          :: j < CLIENTS ->
             rewritten_in_section = holds[j] == 1 + daemon * SLOTS + i;
#ifndef ONLY_READS
             assert(!rewritten_in_section);
#endif
             rewritten_in_section = false;
             j++
          :: else -> break
          od
       :: tag[i] > oldest -> held_for_ever = alone
       :: else
       fi;
       i++
    :: else -> break
    od;
    assert(!held_for_ever);
    i = 0;
    j = 0;
    oldest = 0;
    alone = false
  }
}

#define retired (tag[0] + tag[1] + tag[2] != 0)
/* The slot of the block has no tag. */
#define free_slot ((tag[0] == 0) + (tag[1] == 0) + (tag[2] == 0) > 1)

inline move() {
  d_step {
    moves++;
    next = 0;
    do
    :: next == slot || tag[next] != 0 -> next++
    :: else -> break
    od;
    valid[daemon * SLOTS + next] = true /* the copy is awaited, and its bytes are in memory */
  }
kEnginePublish:
  store(ENGINE, at(daemon, WORD), next);
kEngineAppendLog:
  store(ENGINE, at(daemon, LOG), next);
kEngineNewEpoch:
  atomic {
    load(ENGINE, at(daemon, EPOCH), epoch);
    epoch++;
    store(ENGINE, at(daemon, EPOCH), epoch)
  }
kEngineTag:
  d_step {
#ifdef TAG_BEFORE_EPOCH
    epoch--;
#endif
    tag[slot] = epoch; /* the slot that the block was in */
    slot = next;
    next = 0;
    epoch = 0
  }
}

proctype Engine(byte daemon, moves_max) {
  byte slot, next, epoch, moves, oldest, section;
  byte tag[SLOTS]; /* 0: not retired */
  bool alone; /* at the start of the scan no client was left */
  {
end:
    do
    :: moves < moves_max && free_slot ->
#ifdef SCAN_BEFORE_UNPUBLISH
       fence_and_scan();
       move();
kEngineReuse:
       reuse()
#else
       move()
    :: retired ->
       fence_and_scan();
kEngineReuse:
       reuse()
#endif
    od
  } unless { end_daemon ? _ };
  atomic {
    slot = 0; next = 0; epoch = 0; moves = 0; oldest = 0; section = 0; alone = false;
    tag[0] = 0; tag[1] = 0; tag[2] = 0
  }
}

#if MOVES_AFTER < 255
/* The daemon may stop at any step. What it stored is in memory when the next one starts. */
proctype Restart() {
end:
  end_daemon ! 0;
  d_step {
    buffer[ENGINE].used == 0 ->
    current = 1;
    read_of_rewritten = !valid[memory[at(0, WORD)]] || !valid[memory[at(0, LOG)]];
    assert(!read_of_rewritten);
    /* Nobody rewrites the slots of the old memory any more, so whatever a client resolves there from now on
     * has its bytes. Nobody reads the words that clients store there. It is as at first from here on, which
     * makes fewer states of the same behaviour. */
    j = 0;
    do
    :: j < CLIENTS ->
       read_of_rewritten = holds[j] != 0 && !valid[holds[j] - (holds[j] != 0)];
       assert(!read_of_rewritten);
       holds[j] = holds[j] != 0;
       memory[at(0, SECTION + j)] = 0;
       buffer[j].used = 0;
       i = 0;
       do
       :: i < DEPTH -> buffer[j].word[i] = 0; buffer[j].value[i] = 0; i++
       :: else -> break
       od;
       j++
    :: else -> break
    od;
    memory[at(0, WORD)] = 0;
    memory[at(0, LOG)] = 0;
    memory[at(0, EPOCH)] = FIRST_EPOCH;
    valid[0] = true;
    valid[1] = false;
    valid[2] = false;
    i = 0;
    j = 0
  }
  run Engine(1, MOVES_AFTER)
}
#endif

init {
  atomic {
    for (i : 0 .. DAEMONS - 1) {
      memory[at(i, EPOCH)] = FIRST_EPOCH;
      valid[i * SLOTS] = true
    }
    for (i : 0 .. CLIENTS - 1) {
      run Client(i);
      run Fate(i);
      run Hardware(i)
    }
    run Hardware(ENGINE);
    run Engine(0, MOVES);
#if MOVES_AFTER < 255
    run Restart()
#endif
  }
}
