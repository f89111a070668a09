// swift-tools-version: 6.2
import PackageDescription

// The layers of docs/architecture.md, bottom to top. A target may import only what stands in its `dependencies`: the
// builds of ./cluster/up and ./cluster/test check it, and Tests/EndToEnd/test_layers.py that those point downward.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")

let package = Package(
    name: "fanfare",
    products: [
        .executable(name: "fanfare", targets: ["fanfare"])
    ],
    // Up to the next minor version: a minor one may deprecate what is used here, and warnings are errors.
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", .upToNextMinor(from: "1.8.2")),
        .package(url: "https://github.com/apple/swift-configuration", .upToNextMinor(from: "1.4.0")),
        .package(url: "https://github.com/apple/swift-crypto", .upToNextMinor(from: "4.5.2")),
        .package(url: "https://github.com/apple/swift-http-types", .upToNextMinor(from: "1.8.0")),
        .package(url: "https://github.com/apple/swift-log", .upToNextMinor(from: "1.16.2")),
        .package(url: "https://github.com/apple/swift-metrics", .upToNextMinor(from: "2.13.0")),
        .package(url: "https://github.com/apple/swift-nio", .upToNextMinor(from: "2.101.2")),
        .package(url: "https://github.com/apple/swift-protobuf", .upToNextMinor(from: "1.39.0")),
        .package(url: "https://github.com/hummingbird-project/hummingbird", .upToNextMinor(from: "2.28.1")),
        .package(url: "https://github.com/jpsim/Yams", .upToNextMinor(from: "6.2.2")),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", .upToNextMinor(from: "2.13.0")),
        .package(url: "https://github.com/vapor/jwt-kit", .upToNextMinor(from: "5.7.1")),
    ],
    targets: [
        // C shims: headers only.
        .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .target(name: "CEpoll"),

        // Values and pure logic: no I/O, no clock, no randomness of their own.
        .target(name: "FanfareModel", swiftSettings: settings),
        .target(
            name: "FanfareProtocol",
            dependencies: ["FanfareModel", .product(name: "SwiftProtobuf", package: "swift-protobuf")],
            exclude: ["Centrifuge/Schema/client.proto"],
            swiftSettings: settings
        ),
        .target(name: "FanfareCore", dependencies: ["FanfareModel"], swiftSettings: settings),

        // What the fabric asks of its engines (`Broker`, `Store`), and the in-memory broker.
        .target(name: "FanfareEngines", dependencies: ["FanfareModel", "FanfareCore"], swiftSettings: settings),

        // The actors: room, edge, session, fan-out shard, membership.
        .target(
            name: "FanfareFabric",
            dependencies: ["FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", logging, metrics],
            swiftSettings: settings
        ),

        // epoll loops that are serial executors.
        .target(
            name: "FanfareLoops", dependencies: ["CEpoll", "FanfareModel", "FanfareCore"], swiftSettings: settings),

        // Engines.
        .target(
            name: "FanfareRedis",
            dependencies: [
                "CHiredis", "FanfareModel", "FanfareCore", "FanfareEngines", "FanfareLoops", logging, metrics,
            ],
            swiftSettings: settings
        ),
        .target(
            name: "FanfarePostgres",
            dependencies: ["CLibPQ", "FanfareModel", "FanfareCore", "FanfareEngines", logging, metrics],
            swiftSettings: settings
        ),

        // Logs and metrics as operators read them.
        .target(name: "FanfareObservability", dependencies: [logging, metrics], swiftSettings: settings),

        // Sockets, HTTP, server API.
        .target(
            name: "FanfareGateway",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", "FanfareFabric", "FanfareLoops",
                "CEpoll", logging, metrics,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),

        // What the commands do, apart from the command line's words: configuration, clients, import.
        .target(
            name: "FanfareCommand",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareObservability", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings
        ),

        .executableTarget(
            name: "fanfare",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", "FanfareFabric", "FanfareLoops",
                "FanfareRedis", "FanfarePostgres", "FanfareObservability", "FanfareGateway", "FanfareCommand",
                logging, metrics,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),

        // The simulator, and suites that every implementation of an engine passes.
        .target(
            name: "FanfareTesting",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", "FanfareFabric", logging,
            ],
            swiftSettings: settings
        ),

        .testTarget(
            name: "FanfareModelTests", dependencies: ["FanfareModel"], swiftSettings: settings),
        .testTarget(
            name: "FanfareProtocolTests",
            dependencies: [
                "FanfareModel", "FanfareProtocol", .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ], swiftSettings: settings),
        .testTarget(
            name: "FanfareCoreTests", dependencies: ["FanfareModel", "FanfareCore"], swiftSettings: settings),
        .testTarget(
            name: "FanfareLoopsTests", dependencies: ["FanfareModel", "FanfareCore", "FanfareLoops"],
            swiftSettings: settings),
        .testTarget(
            name: "FanfareFabricTests",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", "FanfareFabric", "FanfareTesting",
                logging,
            ], swiftSettings: settings),
        .testTarget(
            name: "FanfareRedisTests",
            dependencies: [
                "FanfareModel", "FanfareCore", "FanfareEngines", "FanfareLoops", "FanfareRedis", "FanfareTesting",
                logging,
            ], swiftSettings: settings),
        .testTarget(
            name: "FanfarePostgresTests",
            dependencies: [
                "FanfareModel", "FanfareCore", "FanfareEngines", "FanfarePostgres", "FanfareTesting", logging,
            ], swiftSettings: settings),
        .testTarget(
            name: "FanfareObservabilityTests", dependencies: ["FanfareObservability", logging, metrics],
            swiftSettings: settings),
        .testTarget(
            name: "FanfareCommandTests",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareObservability", "FanfareCommand", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "JWTKit", package: "jwt-kit"),
            ], swiftSettings: settings),
        .testTarget(
            name: "FanfareGatewayTests",
            dependencies: [
                "FanfareModel", "FanfareProtocol", "FanfareCore", "FanfareEngines", "FanfareFabric", "FanfareLoops",
                "FanfareGateway", logging,
                .product(name: "CryptoExtras", package: "swift-crypto"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
