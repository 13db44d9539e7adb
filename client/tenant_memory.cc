#include "client/tenant_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier {

absl::StatusOr<std::shared_ptr<TenantMemory>> TenantMemory::Attach(const Options& options) {
  MemoryChannel::Attached attached;
  auto channel = MemoryChannel::Connect(options.socket, options.session_id, options.daemon_epoch,
                                        options.timeout, attached);
  if (!channel.ok()) return channel.status();
  if (attached.client_page_bytes < wire::kClientPageBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("kvtierd's client page has ", attached.client_page_bytes, " bytes instead of ",
                     wire::kClientPageBytes));
  }
  Parts parts;
  parts.channel = *std::move(channel);
  auto index = Mapping::Map(attached.index.get(), attached.index_bytes, Mapping::Access::kRead,
                            /*populate=*/false);
  if (!index.ok()) return index.status();
  parts.index = *std::move(index);
  auto page = Mapping::Map(attached.client_page.get(), attached.client_page_bytes,
                           Mapping::Access::kWrite, /*populate=*/false);
  if (!page.ok()) return page.status();
  parts.client_page = *std::move(page);
  return Over(std::move(parts), options);
}

absl::StatusOr<std::shared_ptr<TenantMemory>> TenantMemory::Over(Parts parts,
                                                                 const Options& options) {
  std::string why;
  auto index = wire::IndexReader::Create({parts.index.data(), parts.index.bytes()}, why);
  if (!index.has_value()) return absl::FailedPreconditionError(why);
  if (index->header().daemon_epoch != options.daemon_epoch) {
    return absl::FailedPreconditionError(absl::StrCat("the index is of daemon epoch ",
                                                      index->header().daemon_epoch,
                                                      ", the session of ", options.daemon_epoch));
  }
  const auto& page = *reinterpret_cast<const wire::ClientPage*>(parts.client_page.data());
  if (page.magic != wire::kClientPageMagic) {
    return absl::FailedPreconditionError("kvtierd's client page is none");
  }
  auto segments = SegmentMap::Create(parts.channel, options.places);
  if (!segments.ok()) return segments.status();
  auto verified = VerifiedCopies::Create(options.verified_blocks_max);
  if (!verified.ok()) return verified.status();
  return std::shared_ptr<TenantMemory>(new TenantMemory(
      std::move(parts), *std::move(index), *std::move(segments), *std::move(verified)));
}

TenantMemory::TenantMemory(Parts parts, wire::IndexReader index,
                           std::unique_ptr<SegmentMap> segments, VerifiedCopies verified)
    : parts_(std::move(parts)),
      index_(std::move(index)),
      segments_(std::move(segments)),
      verified_(std::move(verified)),
      reports_(&page()) {}

void TenantMemory::Report(absl::Span<const wire::Report> reports, bool wait) {
  if (wait) {
    mutex_.Lock();
  } else if (!mutex_.TryLock()) {
    wire::NoteDropped(page(), reports.size());
    return;
  }
  for (const wire::Report& report : reports) (void)reports_.Write(report);
  mutex_.Unlock();
}

}  // namespace kvtier
