// Proves that requests are checked before they are used: versions, keys, names, planes, models,
// hints, times; and that statuses survive the way over gRPC.
#include "daemon/proto_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "daemon/status_convert.h"
#include "proto/wire/version.h"

namespace kvtier {
namespace {

using ::testing::HasSubstr;

TEST(StatusConvert, EveryCodeComesBack) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code),
                              code == 0 ? "" : "lease 7 ended");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
    EXPECT_EQ(static_cast<int>(ToGrpcStatus(status).error_code()), code);
  }
}

TEST(StatusConvert, LongMessagesAreCut) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError(std::string(100'000, 'x')));
  EXPECT_EQ(status.error_message().size(), 1027u);
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::StatusCode::DO_NOT_USE, "new")).code(),
            absl::StatusCode::kUnknown);
}

TEST(ProtoConvert, AnotherMajorVersionIsRefusedWithBothNamed) {
  v1::Version version;
  version.set_major(wire::kProtocolMajor);
  version.set_minor(wire::kProtocolMinor + 5);
  EXPECT_TRUE(CheckVersion(version, "client").ok());
  for (const uint32_t major : {0u, wire::kProtocolMajor + 1}) {
    version.set_major(major);
    version.set_minor(3);
    const absl::Status status = CheckVersion(version, "client");
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.message(), HasSubstr(std::to_string(major) + ".3"));
    EXPECT_THAT(status.message(), HasSubstr(std::to_string(wire::kProtocolMajor) + "." +
                                            std::to_string(wire::kProtocolMinor)));
  }
}

TEST(ProtoConvert, KeysHaveSixteenBytes) {
  EXPECT_TRUE(KeyFromBytes("", "parent_key", true)->is_zero());
  EXPECT_THAT(KeyFromBytes("", "key", false).status().message(),
              HasSubstr("key has 0 bytes; a chunk key has 16"));
  EXPECT_THAT(KeyFromBytes(std::string(17, 'k'), "key", true).status().message(),
              HasSubstr("17 bytes"));
  const std::string bytes = "0123456789abcdefFEDCBA9876543210";
  const auto keys = KeysFromBytes(bytes, 2);
  ASSERT_TRUE(keys.ok());
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ(KeyToBytes((*keys)[0]) + KeyToBytes((*keys)[1]), bytes);
  EXPECT_THAT(KeysFromBytes(bytes, 1).status().message(), HasSubstr("2 chunks; at most 1"));
  EXPECT_THAT(KeysFromBytes(bytes.substr(1), 9).status().message(), HasSubstr("31 bytes"));
  EXPECT_TRUE(KeysFromBytes("", 9)->empty());
}

TEST(ProtoConvert, NamesGiveTheKeysOfTheWireLibrary) {
  const wire::KeyScope scope{.tenant_salt = "salt", .fingerprint = {1, 2, 3}};
  const wire::ChunkKey parent = *KeyFromBytes(std::string(16, 'p'), "", false);
  v1::ChunkName name;
  EXPECT_THAT(NameToKey(name, scope, {}).status().message(), HasSubstr("no name"));

  name.mutable_tokens()->set_parent_key(std::string(16, 'p'));
  EXPECT_THAT(NameToKey(name, scope, {}).status().message(), HasSubstr("empty list of tokens"));
  for (const uint32_t token : {5u, 6u, 7u}) name.mutable_tokens()->add_tokens(token);
  name.mutable_tokens()->set_extra("adapter");
  const auto tokens = NameToKey(name, scope, 3);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->key, wire::TokenChunkKey(scope, parent, {5, 6, 7}, "adapter"));
  EXPECT_EQ(tokens->parent, parent);
  EXPECT_THAT(NameToKey(name, scope, 4).status().message(),
              HasSubstr("3 tokens, but its token_count is 4"));
  name.mutable_tokens()->set_extra(std::string(100'000, 'e'));
  EXPECT_THAT(NameToKey(name, scope, 3).status().message(),
              HasSubstr("100000 bytes; at most 65536"));

  name.mutable_opaque()->set_engine_key("anything");
  const auto opaque = NameToKey(name, scope, 3);
  ASSERT_TRUE(opaque.ok());
  EXPECT_EQ(opaque->key, wire::OpaqueChunkKey(scope, {}, "anything", ""));
  EXPECT_EQ(opaque->parent, std::nullopt);
  name.mutable_opaque()->set_engine_key("");
  EXPECT_THAT(NameToKey(name, scope, 3).status().message(), HasSubstr("engine_key is empty"));
  name.mutable_opaque()->set_engine_key("k");
  name.mutable_opaque()->set_parent_key("short");
  EXPECT_THAT(NameToKey(name, scope, 3).status().message(), HasSubstr("parent_key has 5 bytes"));
}

TEST(ProtoConvert, NumbersThatAreNoIdsAreRefused) {
  EXPECT_EQ(ModelFromNumber(65'534)->value(), 65'534);
  EXPECT_EQ(ModelFromNumber(65'535).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PlaneFromNumber(1u << 16).status().code(), absl::StatusCode::kInvalidArgument);
  google::protobuf::RepeatedField<uint32_t> planes;
  planes.Add(1);
  planes.Add(2);
  EXPECT_EQ(PlanesFromNumbers(planes, 2)->size(), 2u);
  EXPECT_THAT(PlanesFromNumbers(planes, 1).status().message(),
              HasSubstr("2 planes are named; a model has at most 1"));
}

TEST(ProtoConvert, ModelsKeepEveryField) {
  v1::ModelSpec model;
  model.set_name("m");
  model.set_revision("r");
  model.set_chunk_tokens(16);
  v1::Plane* plane = model.add_planes();
  plane->set_name("layer.0.k");
  plane->set_layer(3);
  plane->set_kind(v1::PLANE_KIND_WINDOW);
  plane->set_rank(-1);
  plane->set_bytes_per_chunk(4096);
  plane->set_required(true);
  plane->set_window_tokens(32);
  model.add_recompute()->set_seconds(0.5);
  const auto spec = ModelFromProto(model, 4);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->planes[0], (PlaneSpec{.name = "layer.0.k",
                                        .layer = 3,
                                        .kind = PlaneKind::kWindow,
                                        .rank = -1,
                                        .bytes_per_chunk = Bytes(4096),
                                        .required = true,
                                        .window_tokens = 32}));
  EXPECT_EQ(spec->recompute[0].seconds, 0.5);
  EXPECT_THAT(ModelFromProto(model, 0).status().message(), HasSubstr("1 planes; the limit is 0"));
  plane->set_bytes_per_chunk(std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(ModelFromProto(model, 4).status().message(), HasSubstr("18446744073709551615 bytes"));
  plane->set_bytes_per_chunk(1);
  plane->set_kind(v1::PLANE_KIND_UNSPECIFIED);
  EXPECT_THAT(ModelFromProto(model, 4).status().message(), HasSubstr("plane 0 has kind 0"));
}

TEST(ProtoConvert, HintsAndTimes) {
  v1::Hints hints;
  EXPECT_TRUE(CheckHints(hints).ok());
  hints.set_priority(static_cast<v1::Priority>(9));
  EXPECT_THAT(CheckHints(hints).message(), HasSubstr("priority 9 is unknown"));
  hints.set_priority(v1::PRIORITY_HIGH);
  hints.set_do_not_store(true);
  EXPECT_EQ(CheckHints(hints).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(LeaseTtl(0, absl::Minutes(1)), absl::ZeroDuration());
  EXPECT_EQ(LeaseTtl(std::numeric_limits<uint64_t>::max(), absl::Minutes(1)), absl::Minutes(1));
}

}  // namespace
}  // namespace kvtier
