#include "daemon/counter_table.h"

namespace kvtier {
namespace {

constexpr CounterEntry kCounters[] = {
    {"lookups", &EngineCounters::lookups, "Lookups answered"},
    {"lookup_chunks", &EngineCounters::lookup_chunks, "Chunks that lookups asked for"},
    {"hit_chunks", &EngineCounters::hit_chunks, "Chunks that lookups found usable"},
    {"reserved_chunks", &EngineCounters::reserved_chunks, "Chunks reserved"},
    {"committed_chunks", &EngineCounters::committed_chunks, "Chunks that became visible"},
    {"already_existing_chunks", &EngineCounters::already_existing_chunks,
     "Commits of chunks that were there already"},
    {"dropped_chunks", &EngineCounters::dropped_chunks, "Chunks dropped to make room"},
    {"forgotten_chunks", &EngineCounters::forgotten_chunks,
     "Chunks hidden by Forget, descendants included"},
    {"incomplete_dropped_chunks", &EngineCounters::incomplete_dropped_chunks,
     "Chunks dropped because their planes did not all come"},
    {"moves_started", &EngineCounters::moves_started, "Copies between pools begun"},
    {"moves_done", &EngineCounters::moves_done, "Copies between pools that were published"},
    {"moves_failed", &EngineCounters::moves_failed, "Copies between pools that changed nothing"},
    {"moved_bytes", &EngineCounters::moved_bytes, "Bytes of published copies"},
    {"verified_bytes", &EngineCounters::verified_bytes, "Bytes whose checksum was compared"},
    {"corrupt_copies", &EngineCounters::corrupt_copies, "Copies dropped for a wrong checksum"},
    {"lost_blocks", &EngineCounters::lost_blocks, "Blocks whose last copy was dropped so"},
    {"reservations_refused", &EngineCounters::reservations_refused, "Reservations without room"},
    {"sessions_expired", &EngineCounters::sessions_expired,
     "Sessions ended for want of a heartbeat"},
    {"leases_expired", &EngineCounters::leases_expired, "Leases ended by time"},
    {"reported_reads", &EngineCounters::reported_reads, "Block reads that workers reported"},
    {"prefetch_chunks", &EngineCounters::prefetch_chunks, "Chunks that prefetches queued"},
    {"shared_reports", &EngineCounters::shared_reports, "Reads reported through shared memory"},
    {"shared_reports_invalid", &EngineCounters::shared_reports_invalid,
     "Those of them that named nothing of the tenant's"},
    {"shared_reports_dropped", &EngineCounters::shared_reports_dropped,
     "Reports that clients say they had no room for"},
    {"section_limit_refusals", &EngineCounters::section_limit_refusals,
     "Leases and reservations refused to clients with a section open for too long"},
    {"index_refusals", &EngineCounters::index_refusals,
     "Chunks that had no room in the index that clients read"},
    {"logical_times", &EngineCounters::logical_times,
     "Calls that brought a time of their own for policies"},
    {"section_scans", &EngineCounters::section_scans,
     "Looks at all open read sections of a tenant's clients"},
};

}  // namespace

absl::Span<const CounterEntry> EngineCounterTable() { return kCounters; }

}  // namespace kvtier
