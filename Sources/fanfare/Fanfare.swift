import ArgumentParser

@main
struct Fanfare: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "fanfare")
}
